/** crc32_be of the kernel: polynomial 0x04c11db7, most significant bit first, not inverted at the end. */

import { slicingTables } from '../slicing-tables.ts';

const [table0, table1, table2, table3, table4, table5, table6, table7] = slicingTables(
  (byte) => {
    let crc = byte << 24;
    for (let bit = 0; bit < 8; bit += 1) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
    return crc;
  },
  (crc, first) => (crc << 8) ^ first[crc >>> 24]!,
);

/** Continues from `seed` (0xffffffff to begin with). */
export function crc32Be(seed: number, bytes: Uint8Array): number {
  let crc = seed | 0;
  let at = 0;
  for (const last = bytes.length - 7; at < last; at += 8) {
    crc ^= (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    crc =
      table7[crc >>> 24]! ^
      table6[(crc >>> 16) & 0xff]! ^
      table5[(crc >>> 8) & 0xff]! ^
      table4[crc & 0xff]! ^
      table3[bytes[at + 4]!]! ^
      table2[bytes[at + 5]!]! ^
      table1[bytes[at + 6]!]! ^
      table0[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at += 1) crc = (crc << 8) ^ table0[((crc >>> 24) ^ bytes[at]!) & 0xff]!;
  return crc >>> 0;
}
