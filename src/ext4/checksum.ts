/**
 * The checksums of ext4: crc32c of metadata_csum and crc16 of uninit_bg. Both continue from a seed
 * and are not inverted at the end, as in the kernel (ext4_chksum, crc16). They find accidents;
 * against an attacker, who can compute them as well, they are worth nothing.
 */

import { slicingTables } from './slicing-tables.ts';

const [table0, table1, table2, table3, table4, table5, table6, table7] = slicingTables(
  (byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    return crc;
  },
  (crc, first) => (crc >>> 8) ^ first[crc & 0xff]!,
);

/**
 * crc32c (Castagnoli) of `bytes[start, end)`, continuing from `seed` (0xffffffff to begin with).
 * 0 <= start <= end <= bytes.length is the caller's promise.
 */
export function crc32c(seed: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = seed | 0;
  let at = start;
  for (const last = end - 7; at < last; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      table7[crc & 0xff]! ^
      table6[(crc >>> 8) & 0xff]! ^
      table5[(crc >>> 16) & 0xff]! ^
      table4[crc >>> 24]! ^
      table3[bytes[at + 4]!]! ^
      table2[bytes[at + 5]!]! ^
      table1[bytes[at + 6]!]! ^
      table0[bytes[at + 7]!]!;
  }
  for (; at < end; at += 1) crc = (crc >>> 8) ^ table0[(crc ^ bytes[at]!) & 0xff]!;
  return crc >>> 0;
}

/** crc32c of a 32-bit number, little-endian. */
export function crc32cWord(seed: number, value: number): number {
  const crc = (seed ^ value) | 0;
  return (
    (table3[crc & 0xff]! ^
      table2[(crc >>> 8) & 0xff]! ^
      table1[(crc >>> 16) & 0xff]! ^
      table0[crc >>> 24]!) >>>
    0
  );
}

/** crc32c of `count` zero bytes: checksum fields count as zeros. */
export function crc32cZeros(seed: number, count: number): number {
  let crc = seed | 0;
  for (let done = 0; done < count; done += 1) crc = (crc >>> 8) ^ table0[crc & 0xff]!;
  return crc >>> 0;
}

/** crc16 (polynomial 0xa001), continuing from `seed` (0xffff to begin with). */
export function crc16(seed: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = seed;
  for (let at = start; at < end; at += 1) {
    crc ^= bytes[at]!;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  }
  return crc;
}
