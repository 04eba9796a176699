/** Attributes for file systems that have little to say about their files. */
import type { Attributes } from './filesystem.ts';

const attributeBlockBytes = 512;

/**
 * What is said: inode number, type and permission bits (as st_mode), size. The rest: root's, 1970,
 * one link.
 */
export function plainAttributes(
  said: Pick<Attributes, 'ino' | 'mode'> & Partial<Attributes>,
): Attributes {
  return {
    sizeBytes: 0,
    blocks: Math.ceil((said.sizeBytes ?? 0) / attributeBlockBytes),
    atimeSeconds: 0,
    atimeNanoseconds: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    blockSizeBytes: 4096,
    ...said,
  };
}
