/** crc32_be of the kernel: polynomial 0x04c11db7, most significant bit first, not inverted at the end. */

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit += 1) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc >>> 0;
});

/** Continues from `seed` (0xffffffff to begin with). */
export function crc32Be(seed: number, bytes: Uint8Array): number {
  let crc = seed | 0;
  for (const byte of bytes) crc = (crc << 8) ^ table[((crc >>> 24) ^ byte) & 0xff]!;
  return crc >>> 0;
}
