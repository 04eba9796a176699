/**
 * Names that a btrfs takes for one: it files them under crc32c, all with one sum share a block of its tree, and what
 * does not fit into that is EOVERFLOW (btrfs_check_dir_item_collision in fs/btrfs/dir-item.c). The one limit of names
 * that any kernel with btrfs shows.
 */
import { crc32c } from '../../src/ext4/checksum.ts';

const nameBytes = 255;
/** ~1: what btrfs begins with. */
const seed = 0xffff_fffe;
/** Between `a` and `c`. */
const bit = 2;

/** `count` <= 223 different names of 255 letters. A block of 16 KiB has room for 57 of them. */
export function collidingNames(count: number): string[] {
  const plain = Buffer.alloc(nameBytes, 'a');
  const sumOf = (name: Buffer): number => crc32c(seed, name, 0, name.length);
  // The sum is linear: which letters have to change together for it to stay is elimination over GF(2).
  const pivots = new Map<number, { sum: number; letters: bigint }>();
  const names: string[] = [];
  for (let at = 0; at < nameBytes && names.length < count; at += 1) {
    const changed = Buffer.from(plain);
    changed.writeUInt8(plain.readUInt8(at) ^ bit, at);
    let sum = (sumOf(changed) ^ sumOf(plain)) >>> 0;
    let letters = 1n << BigInt(at);
    for (;;) {
      const pivot = pivots.get(Math.clz32(sum));
      if (sum === 0 || pivot === undefined) break;
      sum = (sum ^ pivot.sum) >>> 0;
      letters ^= pivot.letters;
    }
    if (sum !== 0) pivots.set(Math.clz32(sum), { sum, letters });
    else names.push([...plain].map((_a, i) => ((letters >> BigInt(i)) & 1n ? 'c' : 'a')).join(''));
  }
  return names;
}
