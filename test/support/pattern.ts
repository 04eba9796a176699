/**
 * Test content in which every aligned 4 bytes name their place: a shifted, swapped, zeroed or
 * foreign byte range cannot go unnoticed. `seed` tells files and versions apart.
 */

/** Fills `into` with the bytes that a file of this seed has at `offsetBytes` (any safe integer). */
export function fillPattern(into: Uint8Array, seed: number, offsetBytes = 0): void {
  let word = Math.floor(offsetBytes / 4);
  let lane = offsetBytes % 4;
  let value = mix(seed, word);
  for (let index = 0; index < into.length; index += 1) {
    into[index] = value >>> (lane * 8);
    lane += 1;
    if (lane === 4) {
      lane = 0;
      word += 1;
      value = mix(seed, word);
    }
  }
}

export function patternBytes(seed: number, lengthBytes: number, offsetBytes = 0): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  fillPattern(bytes, seed, offsetBytes);
  return bytes;
}

/** A 32-bit finalizer (murmur3's) over seed and place; the upper part of the place counts, too. */
function mix(seed: number, word: number): number {
  let hash =
    (Math.imul(seed, 0x9e3779b1) ^ word ^ Math.imul(Math.floor(word / 2 ** 32), 0x85ebca77)) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
