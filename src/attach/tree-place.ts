/**
 * Where a tree is: the inode of its `.ebb` directory, and the file system's UUID, kept in the state directory. A copy
 * (`cp -a`, a btrfs snapshot, send and receive, a restored backup) has other inodes, so nothing in it is known: what
 * stands in for content that is elsewhere would be taken for ordinary files, and read as data.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ebbError } from '../base/errors.ts';
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
  const known = readFileSync(path.join(stateDirectory, placeName), 'utf8');
  if (known === placeOf(ebbDirectory)) return;
  throw ebbError(
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
