/**
 * Hashes of names in indexed directories (the kernel's fs/ext4/hash.c): the legacy one, half of MD4
 * and TEA, each over signed or unsigned bytes. The keyed hash of encrypted case-insensitive
 * directories is not here: Ebb holds no keys.
 */

const unsignedOffset = 3;
const endOfDirectory = 0xfffffffe;
const defaultSeed = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476] as const;

export interface NameHash {
  /** What indexes are sorted by. The lowest bit is 0: there it means "continued". */
  readonly major: number;
  /** More of the hash, for telling apart names with the same major one. */
  readonly minor: number;
}

/** undefined for a version that cannot be computed. */
export function hashName(
  name: Uint8Array,
  version: number,
  seed: readonly [number, number, number, number],
  unsignedBytes: boolean,
): NameHash | undefined {
  const isUnsigned = unsignedBytes || version >= unsignedOffset;
  const kind = version >= unsignedOffset ? version - unsignedOffset : version;
  if (kind >= hashes.length) return undefined;
  const start = seed.some((word) => word !== 0) ? seed : defaultSeed;
  const bytes = isUnsigned ? name : new Int8Array(name.buffer, name.byteOffset, name.length);
  const [major, minor] = hashes[kind]!(bytes, start);
  const hash = (major & ~1) >>> 0;
  return { major: hash === endOfDirectory ? endOfDirectory - 2 : hash, minor: minor >>> 0 };
}

type Bytes = Uint8Array | Int8Array;

function legacyHash(name: Bytes): [major: number, minor: number] {
  let before = 0x37abe8f9;
  let last = 0x12a3fe2d;
  for (const byte of name) {
    let hash = (before + (last ^ Math.imul(byte, 7_152_373))) >>> 0;
    if (hash & 0x80000000) hash = (hash - 0x7fffffff) >>> 0;
    before = last;
    last = hash;
  }
  return [last << 1, 0];
}

/** The next bytes of a name as words, padded with its length (str2hashbuf_*). */
function fillWords(name: Bytes, from: number, words: Int32Array): void {
  const left = name.length - from;
  let pad = left | (left << 8);
  pad |= pad << 16;
  let value = pad;
  let word = 0;
  const length = Math.min(left, words.length * 4);
  for (let index = 0; index < length; index += 1) {
    value = (name[from + index]! + (value << 8)) | 0;
    if (index % 4 === 3) {
      words[word] = value;
      word += 1;
      value = pad;
    }
  }
  if (word < words.length) words[word] = value;
  for (word += 1; word < words.length; word += 1) words[word] = pad;
}

const rotate = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

type Mix = (x: number, y: number, z: number) => number;

/** The three rounds: how words are mixed, what is added, which word when, how far it is rotated. */
const rounds: readonly [
  mix: Mix,
  add: number,
  order: readonly number[],
  turns: readonly number[],
][] = [
  [(x, y, z) => z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]],
  [(x, y, z) => ((x & y) + ((x ^ y) & z)) | 0, 0x5a827999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]],
  [(x, y, z) => x ^ y ^ z, 0x6ed9eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]],
];

function halfMd4(name: Bytes, seed: readonly number[]): [major: number, minor: number] {
  const sums = Int32Array.from(seed);
  const words = new Int32Array(8);
  for (let from = 0; from < name.length; from += 32) {
    fillWords(name, from, words);
    let [a, b, c, d] = sums as unknown as [number, number, number, number];
    for (const [mix, add, order, turns] of rounds) {
      for (let step = 0; step < 8; step += 1) {
        const sum = (a + mix(b, c, d) + words[order[step]!]! + add) | 0;
        // The four take turns at being the one that is changed.
        a = d;
        d = c;
        c = b;
        b = rotate(sum, turns[step % 4]!);
      }
    }
    sums[0]! += a;
    sums[1]! += b;
    sums[2]! += c;
    sums[3]! += d;
  }
  return [sums[1]!, sums[2]!];
}

function tea(name: Bytes, seed: readonly number[]): [major: number, minor: number] {
  let high = seed[0]! | 0;
  let low = seed[1]! | 0;
  const words = new Int32Array(4);
  for (let from = 0; from < name.length; from += 16) {
    fillWords(name, from, words);
    const [a, b, c, d] = words as unknown as [number, number, number, number];
    let first = high;
    let second = low;
    let sum = 0;
    for (let round = 0; round < 16; round += 1) {
      sum = (sum + 0x9e3779b9) | 0;
      first = (first + (((second << 4) + a) ^ (second + sum) ^ ((second >>> 5) + b))) | 0;
      second = (second + (((first << 4) + c) ^ (first + sum) ^ ((first >>> 5) + d))) | 0;
    }
    high = (high + first) | 0;
    low = (low + second) | 0;
  }
  return [high, low];
}

/** By version. */
const hashes = [legacyHash, halfMd4, tea] as const;
