/** qcow2 images as QEMU makes them, and such as nobody should. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, after, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { EbbError } from '../../src/base/errors.ts';
import { fileDevice, memoryDevice } from '../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../src/ext4/block-device.ts';
import { inflateCluster } from '../../src/image/container/compressed-cluster.ts';
import { Qcow2Device } from '../../src/image/container/qcow2.ts';
import { readQcow2Header } from '../../src/image/container/qcow2-header.ts';
import { patternBytes } from '../support/pattern.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { mutate } from '../support/mutate.ts';

const mebibyte = 1024 * 1024;
const qemu = { debianPackage: 'qemu-utils' } as const;

let directory: TemporaryDirectory;
let rawPath: string;
let raw: Buffer;

/** 5 MiB and an odd sector: text that packs well, noise that does not, zeros, a lone byte. */
function content(): Buffer {
  const bytes = Buffer.alloc(5 * mebibyte + 512);
  bytes.fill('Ebb and flow. ', 0, mebibyte);
  let state = 12_345;
  for (let at = 2 * mebibyte; at < 3 * mebibyte + 70_000; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 24;
  }
  bytes[4 * mebibyte + 5] = 7;
  bytes.fill('end', bytes.length - 100);
  return bytes;
}

before(async () => {
  directory = await temporaryDirectory('qcow2');
  rawPath = path.join(directory.path, 'raw');
  raw = content();
  writeFileSync(rawPath, raw);
});
after(() => directory[Symbol.asyncDispose]());

function open(device: BlockDevice): Qcow2Device {
  return new Qcow2Device(device, readQcow2Header(device));
}

async function make(name: string, words: readonly string[]): Promise<string> {
  const file = path.join(directory.path, name);
  await runOk('qemu-img', [...words, file].map(String), qemu);
  return file;
}

function wholeOf(device: BlockDevice, stepBytes: number): Buffer {
  const bytes = Buffer.alloc(device.sizeBytes);
  for (let at = 0; at < bytes.length; at += stepBytes) {
    device.read(at, bytes.subarray(at, Math.min(at + stepBytes, bytes.length)));
  }
  return bytes;
}

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof EbbError, String(error));
    return `${error.code}: ${error.message}`;
  }
  return 'nothing was thrown';
}

const variants: readonly (readonly [string, readonly string[]])[] = [
  ['version 2', ['-o', 'compat=0.10']],
  ['version 3', ['-o', 'compat=1.1']],
  ['clusters of 512 bytes', ['-o', 'cluster_size=512']],
  ['clusters of 2 MiB', ['-o', 'cluster_size=2M']],
  ['deflate', ['-c']],
  ['deflate, version 2', ['-c', '-o', 'compat=0.10']],
  ['deflate, clusters of 512 bytes', ['-c', '-o', 'cluster_size=512']],
  ['zstd', ['-c', '-o', 'compression_type=zstd']],
  ['zstd, clusters of 2 MiB', ['-c', '-o', 'compression_type=zstd,cluster_size=2M']],
  ['all clusters there', ['-S', '0']],
  ['preallocated', ['-o', 'preallocation=full']],
];

for (const [name, words] of variants) {
  test(`a qcow2 image (${name}) reads as the disk it was made of`, async () => {
    const file = await make(`${name}.qcow2`, ['convert', '-O', 'qcow2', ...words, rawPath]);
    const descriptor = openSync(file, 'r');
    try {
      const device = open(fileDevice(descriptor, statSync(file).size));
      assert.equal(device.sizeBytes, raw.length);
      assert.ok(wholeOf(device, raw.length).equals(raw));
      assert.ok(wholeOf(device, 100_003).equals(raw));
      fc.assert(
        fc.property(fc.nat(raw.length), fc.nat(200_000), (offset, size) => {
          const into = Buffer.alloc(Math.min(size, raw.length - offset), 1);
          device.read(offset, into);
          return into.equals(raw.subarray(offset, offset + into.length));
        }),
        { numRuns: 50 },
      );
      assert.match(
        code(() => device.read(raw.length - 1, new Uint8Array(2))),
        /^EIO/,
      );
    } finally {
      closeSync(descriptor);
    }
  });
}

test('clusters of zeros and discarded ones read as zeros, also where there was content before', async () => {
  const file = await make('zeros.qcow2', ['convert', '-O', 'qcow2', rawPath]);
  const commands = [
    'write -z 65536 131072',
    'write -z -u 2M 128k',
    'discard 3M 64k',
    'write -P 9 70000 300',
  ];
  await runOk('qemu-io', [...commands.flatMap((one) => ['-c', one]), file], qemu);
  const back = path.join(directory.path, 'zeros.raw');
  await runOk('qemu-img', ['convert', '-O', 'raw', file, back], qemu);
  assert.ok(wholeOf(open(memoryDevice(readFileSync(file))), 65_537).equals(readFileSync(back)));
});

test('internal snapshots do not change what is read, and are counted', async () => {
  const file = await make('snapshot.qcow2', ['convert', '-O', 'qcow2', rawPath]);
  await runOk('qemu-img', ['snapshot', '-c', 'before', file], qemu);
  await runOk('qemu-io', ['-c', 'write -P 3 0 64k', file], qemu);
  const device = memoryDevice(readFileSync(file));
  assert.equal(readQcow2Header(device).snapshots, 1);
  const expected = Buffer.from(raw).fill(3, 0, 65_536);
  assert.ok(wholeOf(open(device), mebibyte).equals(expected));
});

test('a backing file is named and never opened', async () => {
  const file = path.join(directory.path, 'child.qcow2');
  await runOk('qemu-img', ['create', '-f', 'qcow2', '-F', 'raw', '-b', rawPath, file], qemu);
  const refusal = code(() => open(memoryDevice(readFileSync(file))));
  assert.match(refusal, /^EOPNOTSUPP: .*backing file, ".*raw".*qemu-img convert/);
});

test('external data files, extended L2 entries and encryption are refused by name', async () => {
  const secret = [
    '--object',
    'secret,id=s,data=x',
    '-o',
    'encrypt.format=aes,encrypt.key-secret=s',
  ];
  const cases = [
    [['-o', `data_file=${directory.path}/data`], /external data file/],
    [['-o', 'extended_l2=on'], /extended L2/],
    [secret, /encrypted/],
  ] as const;
  for (const [words, sentence] of cases) {
    const file = path.join(directory.path, 'refused.qcow2');
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', ...words, file, '1M'], qemu);
    const refusal = code(() => open(memoryDevice(readFileSync(file))));
    assert.match(refusal, /^EOPNOTSUPP/);
    assert.match(refusal, sentence);
  }
});

test('tables that lead out of the image are damage, with a cut off image as with a wrong entry', async () => {
  const file = await make('damaged.qcow2', ['convert', '-O', 'qcow2', rawPath]);
  const bytes = readFileSync(file);
  const header = readQcow2Header(memoryDevice(bytes));
  const l2 = Number(bytes.readBigUInt64BE(header.l1OffsetBytes) & 0x00ff_ffff_ffff_fe00n);
  const damage: readonly (readonly [number, bigint])[] = [
    [header.l1OffsetBytes, 1n << 50n],
    [header.l1OffsetBytes, BigInt(l2 + 512)],
    [header.l1OffsetBytes, BigInt(l2) | 1n],
    [l2, (1n << 63n) | (1n << 54n)],
    [l2, BigInt(65_536 + 512)],
    [l2, BigInt(65_536) | 4n],
    [l2, (1n << 62n) | (1n << 40n)],
    [l2, (1n << 62n) | 65_536n],
    [40, 1n << 60n],
    [36, 0n],
    [24, 1n << 60n],
  ];
  for (const [offset, value] of damage) {
    const copy = Buffer.from(bytes);
    copy.writeBigUInt64BE(value, offset);
    const outcome = code(() => open(memoryDevice(copy)).read(0, new Uint8Array(4096)));
    assert.match(outcome, /^EUCLEAN/, `${offset}: ${value}`);
  }
  const cut = memoryDevice(bytes.subarray(0, bytes.length - 65_536 * 3));
  assert.match(
    code(() => wholeOf(open(cut), mebibyte)),
    /^EUCLEAN: .*cut off/,
  );
});

test('a cluster of a few zstd frames is read, one of more than anybody writes is damage', () => {
  const content = patternBytes(1, 512);
  const frames = (sizeBytes: number): Buffer => {
    const starts = Array.from({ length: 512 / sizeBytes }, (_, index) => index * sizeBytes);
    return Buffer.concat(
      starts.map((start) => zstdCompressSync(content.subarray(start, start + sizeBytes))),
    );
  };
  assert.ok(content.equals(inflateCluster(frames(128), 'zstd', 512)));
  // Each has its price, and ten bytes can be one: a cluster of 2 MiB had 200,000, and took minutes.
  assert.match(
    code(() => inflateCluster(frames(4), 'zstd', 512)),
    /^EUCLEAN/,
  );
});

test('whatever is wrong with a qcow2 image is an error with a name', async () => {
  const words = ['convert', '-O', 'qcow2', '-c', '-o', 'cluster_size=4k'];
  const bytes = readFileSync(await make('fuzzed.qcow2', [...words, rawPath]));
  const header = readQcow2Header(memoryDevice(bytes));
  const l2 = Number(bytes.readBigUInt64BE(header.l1OffsetBytes) & 0x00ff_ffff_ffff_fe00n);
  const places = [
    { start: 0, end: 112 },
    { start: header.l1OffsetBytes, end: header.l1OffsetBytes + 24 },
    { start: l2, end: l2 + 256 },
  ];
  const into = new Uint8Array(64 * 1024);
  mutate(bytes, places, Number(process.env['EBB_FUZZ_RUNS'] ?? 400), (mutant) => {
    const device = open(memoryDevice(mutant));
    for (const offset of [0, 128 * 1024, mebibyte, 3 * mebibyte]) {
      if (offset + into.length <= device.sizeBytes) device.read(offset, into);
    }
  });
});
