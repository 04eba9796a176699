/** Paths inside an image: as Linux would follow them if the image's root were its root. */
import { decodeName, encodeName } from '../../base/name.ts';
import { ebbError } from '../../base/errors.ts';
import type { Inode, Volume } from '../../ext4/volume.ts';

const symlinksMax = 40;
/** PATH_MAX. */
const pathMaxBytes = 4096;

/**
 * The inode at a path from the root. Symlinks on the way are followed inside of the image, the last one with
 * `followLast`. Throws ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, and what the volume throws.
 */
export function inodeAt(volume: Volume, path: string, followLast: boolean): Inode {
  const fail = (code: 'ENOENT' | 'ENOTDIR' | 'ELOOP' | 'ENAMETOOLONG', why: string): Error =>
    ebbError(code, `${path}: ${why}`);
  const above: Inode[] = [];
  let current = volume.root();
  let left = componentsOf(path);
  let symlinks = 0;
  while (left.length > 0) {
    const [name = '', ...rest] = left;
    left = rest;
    if (current.type !== 'directory') throw fail('ENOTDIR', 'a part of it is no directory');
    if (name === '..') {
      current = above.pop() ?? current;
      continue;
    }
    const entry = volume.lookup(current, encodeName(name));
    if (entry === undefined) throw fail('ENOENT', 'there is no such file in the image');
    const next = volume.child(current, entry);
    if (next.type === 'symlink' && (followLast || left.length > 0)) {
      symlinks += 1;
      if (symlinks > symlinksMax) throw fail('ELOOP', 'there are too many symlinks on the way');
      const target = decodeName(volume.symlinkTarget(next));
      if (target.startsWith('/')) {
        current = volume.root();
        above.length = 0;
      }
      left = [...componentsOf(target), ...left];
      if (left.length > pathMaxBytes) throw fail('ENAMETOOLONG', 'it is too long');
      continue;
    }
    above.push(current);
    current = next;
  }
  return current;
}

function componentsOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}
