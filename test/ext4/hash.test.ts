/** Hashes of names and case folding, as e2fsprogs (and so the kernel) computes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { foldName } from '../../src/ext4/casefold.ts';
import { crc16, crc32c, crc32cWord, crc32cZeros } from '../../src/ext4/checksum.ts';
import { hashName } from '../../src/ext4/hash.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { debugfs, makeImage } from './support/images.ts';
import { Dice } from './support/mutate.ts';

type Seed = [number, number, number, number];

/** Runs `dx_hash` for all names; debugfs splits its commands at blanks and knows quotes. */
async function hashesOf(
  image: string,
  parameters: string,
  names: readonly string[],
): Promise<Map<string, [number, number]>> {
  const text = await debugfs(
    image,
    names.map((name) => `dx_hash ${parameters} ${name}`),
  );
  const found = new Map<string, [number, number]>();
  for (const [, name = '', major, minor] of text.matchAll(
    /^Hash of (.*) is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)$/gm,
  )) {
    found.set(name, [Number.parseInt(major!, 16), Number.parseInt(minor!, 16)]);
  }
  return found;
}

const letters = 'abcxyzABC0189_-.~äöüßÄé漢字😀ÿ';

function randomNames(dice: Dice, count: number): string[] {
  const all = Array.from(letters);
  return Array.from({ length: count }, () => {
    const name = Array.from({ length: 1 + dice.below(60) }, () => dice.of(all)).join('');
    return name.startsWith('-') ? `x${name}` : name;
  });
}

test('names have the hashes that debugfs computes', async () => {
  await using scratch = await temporaryDirectory('hash');
  const image = await makeImage(scratch.path, ['-t', 'ext4'], 4 << 20);
  const dice = new Dice(7);
  const names = randomNames(dice, 300);
  for (const [version, algorithm] of ['legacy', 'half_md4', 'tea'].entries()) {
    for (const uuid of [undefined, '01234567-89ab-cdef-fedc-ba9876543210']) {
      const parameters = uuid === undefined ? '' : `-s ${uuid}`;
      const theirs = await hashesOf(image, `-h ${algorithm} ${parameters}`, names);
      assert.equal(theirs.size, new Set(names).size);
      const bytes = Buffer.from((uuid ?? '00'.repeat(16)).replaceAll('-', ''), 'hex');
      const seed = [0, 4, 8, 12].map((at) => bytes.readUInt32LE(at)) as Seed;
      for (const [name, [major, minor]] of theirs) {
        const hash = hashName(Buffer.from(name), version, seed, false);
        assert.deepEqual(hash, { major, minor }, `${algorithm} ${name}`);
      }
    }
  }
  assert.equal(hashName(Buffer.from('x'), 6, [0, 0, 0, 0], false), undefined);
});

/** Where Unicode 12.1 had its letters with case; all of them, and some that came later. */
const ranges = [
  [0xa1, 0x24f],
  [0x250, 0x2af],
  [0x300, 0x345],
  [0x370, 0x58f],
  [0x10a0, 0x10ff],
  [0x13a0, 0x13fd],
  [0x1c80, 0x1c88],
  [0x1c90, 0x1cbf],
  [0x1e00, 0x1fff],
  [0x200b, 0x200f],
  [0x2100, 0x218b],
  [0x2c00, 0x2c2e],
  [0x2c30, 0x2cff],
  [0xa640, 0xa69f],
  [0xa722, 0xa7bf],
  [0xab30, 0xabbf],
  [0xac00, 0xac80],
  [0xfb00, 0xfb17],
  [0xff01, 0xff5e],
  [0x10400, 0x1044f],
  [0x1e900, 0x1e943],
] as const;

test('names fold as in the tables of e2fsprogs', async () => {
  await using scratch = await temporaryDirectory('fold');
  const image = await makeImage(scratch.path, ['-t', 'ext4', '-O', 'casefold'], 4 << 20);
  const names: string[] = [
    'ÄÖÜ',
    'ΑΣΣ',
    'ἈΣ',
    'Straße',
    'STRASSE',
    'e\u0301',
    'ﬁle',
    'İstanbul',
    'ỦỬ',
  ];
  for (const [first, last] of ranges) {
    for (let point = first; point <= last; point += 1)
      names.push(`a${String.fromCodePoint(point)}Z`);
  }
  const theirs = await hashesOf(image, '-h half_md4 -c -e utf8', names);
  assert.equal(theirs.size, names.length);
  const wrong = [...theirs].filter(
    ([name, [major]]) =>
      hashName(foldName(Buffer.from(name)), 1, [0, 0, 0, 0], false)?.major !== major,
  );
  assert.deepEqual(wrong, []);
  const noText = Uint8Array.of(0x41, 0xff, 0x42);
  assert.deepEqual(foldName(noText), noText);
});

/** One bit at a time, as the definition has it. */
function slowCrc(seed: number, bytes: Uint8Array, polynomial: number): number {
  let crc = seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
  }
  return crc >>> 0;
}

test('checksums are those of their definitions, at all lengths and offsets', () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, index) => (index * 131 + 7) & 0xff);
  // The check value of CRC-32C, which is inverted at the end.
  assert.equal(crc32c(0xffffffff, Buffer.from('123456789'), 0, 9) ^ -1, 0xe3069283 | 0);
  for (let start = 0; start < 20; start += 1) {
    for (let end = start; end < 60 + start; end += 1) {
      const part = bytes.subarray(start, end);
      assert.equal(crc32c(start * 77, bytes, start, end), slowCrc(start * 77, part, 0x82f63b78));
      assert.equal(crc16(0xffff, bytes, start, end), slowCrc(0xffff, part, 0xa001));
    }
  }
  assert.equal(crc32cZeros(5, 11), slowCrc(5, new Uint8Array(11), 0x82f63b78));
  assert.equal(
    crc32cWord(5, 0x89abcdef),
    slowCrc(5, Uint8Array.of(0xef, 0xcd, 0xab, 0x89), 0x82f63b78),
  );
});
