/**
 * Where a tree is: the inode of its `.ebb` directory, and the file system's UUID, kept in the state directory. A copy
 * (`cp -a`, a btrfs snapshot, send and receive, a restored backup) has other inodes, so nothing in it is known: what
 * stands in for content that is elsewhere would be taken for ordinary files, and read as data.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ebbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { encodeHandle, handleOf } from '../sys/handle.ts';
import { filesystemUuid } from '../sys/ioctl.ts';

const placeName = 'place';

/** Says for good that the tree is here; before anything says that it is a tree. Throws what the file system says. */
export function writePlace(stateDirectory: string, ebbDirectory: string): void {
  writeFileSync(path.join(stateDirectory, placeName), placeOf(ebbDirectory), {
    mode: 0o600,
    flush: true,
  });
}

/** Throws EEXIST when the tree is another directory than this one, ENOENT when nobody knows where it is. */
export function checkPlace(stateDirectory: string, tree: string, ebbDirectory: string): void {
  if (isPlaceKnown(stateDirectory, tree, ebbDirectory)) return;
  throw ebbError(
    'ENOENT',
    `${path.join(stateDirectory, placeName)} is gone, so whether ${tree} is the tree or a copy of it is not known. ` +
      `Put the state directory back as it was; or run ebb rebuild ${tree}, which sees it from the marks on the files`,
  );
}

/** Whether it is known that this is the tree. Throws EEXIST when it is known that it is not. */
export function isPlaceKnown(stateDirectory: string, tree: string, ebbDirectory: string): boolean {
  const file = path.join(stateDirectory, placeName);
  if (!existsSync(file)) return false;
  if (readFileSync(file, 'utf8') === placeOf(ebbDirectory)) return true;
  throw isCopy(tree);
}

export function isCopy(tree: string): EbbError {
  return ebbError(
    'EEXIST',
    `${tree} is a copy of a tree, not the tree itself: files in it that were not here when it was copied have no ` +
      'content. Attach an empty directory instead, and take from the copy only what you changed',
  );
}

function placeOf(ebbDirectory: string): string {
  using directory = openFd(ebbDirectory, OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow);
  const handle = encodeHandle(handleOf(directory.fd).handle);
  const uuid = filesystemUuid(directory.fd) ?? new Uint8Array();
  const [inode, filesystem] = [handle, uuid].map((bytes) => Buffer.from(bytes).toString('hex'));
  return `inode ${inode}\nfilesystem ${filesystem}\n`;
}
