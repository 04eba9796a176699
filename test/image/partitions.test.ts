/** Partition tables as sfdisk and sgdisk make them, damaged ones, and which part of a disk is meant. */
import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { EbbError } from '../../src/base/errors.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { choosePlace, openDisk, openPlace } from '../../src/image/container/open-image.ts';
import type { Selection } from '../../src/image/container/open-image.ts';
import { mutate } from '../support/mutate.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const mebibyte = 1024 * 1024;
const fuzzRuns = Number(process.env['EBB_FUZZ_RUNS'] ?? 400);

let directory: TemporaryDirectory;
let count = 0;
before(async () => {
  directory = await temporaryDirectory('partitions');
});
after(() => directory[Symbol.asyncDispose]());

function emptyDisk(sizeBytes = 64 * mebibyte): string {
  count += 1;
  const file = path.join(directory.path, `disk-${count}`);
  writeFileSync(file, '');
  truncateSync(file, sizeBytes);
  return file;
}

async function sfdisk(script: string, sizeBytes?: number): Promise<Buffer> {
  const file = emptyDisk(sizeBytes);
  await runOk('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', file], {
    input: script,
    debianPackage: 'fdisk',
  });
  return readFileSync(file);
}

async function sgdisk(words: readonly string[], sizeBytes?: number): Promise<Buffer> {
  const file = emptyDisk(sizeBytes);
  await runOk('sgdisk', [...words, file], { debianPackage: 'gdisk' });
  return readFileSync(file);
}

/** `number: first sector, sectors` of what is found. */
function found(bytes: Uint8Array): string[] {
  const { table } = openDisk(memoryDevice(bytes));
  return (table?.partitions ?? []).map(
    ({ number, offsetBytes, sizeBytes }) => `${number}: ${offsetBytes / 512}, ${sizeBytes / 512}`,
  );
}

/** The same, by sfdisk. */
async function expected(bytes: Uint8Array): Promise<string[]> {
  const file = emptyDisk(bytes.length);
  writeFileSync(file, bytes);
  const dump = (await runOk('sfdisk', ['--json', file], {})).stdout.toString();
  const { partitiontable } = JSON.parse(dump) as {
    partitiontable: { partitions: { node: string; start: number; size: number; type: string }[] };
  };
  return partitiontable.partitions
    .filter(({ type }) => type !== 'f' && type !== '5')
    .map(
      ({ node, start, size }) => `${node.slice(file.length).replace(/^p/, '')}: ${start}, ${size}`,
    );
}

function place(bytes: Uint8Array, selection?: Selection): string {
  try {
    const disk = openDisk(memoryDevice(bytes));
    const chosen = choosePlace(disk, selection);
    return `${chosen.offsetBytes}+${openPlace(disk, chosen).sizeBytes}`;
  } catch (error) {
    assert.ok(error instanceof EbbError, String(error));
    return `${error.code}: ${error.message}`;
  }
}

/** A superblock's magic number and block size, which is what the choice looks at. */
function putFilesystem(bytes: Buffer, offsetBytes: number): void {
  bytes.writeUInt16LE(0xef53, offsetBytes + 1024 + 56);
  bytes.writeUInt32LE(2, offsetBytes + 1024 + 24);
}

/** FAT, extended, two small ones; logical: 5 (Linux), 6 (swap), 7 (Linux). */
const logical = 'label: dos\n,4M,c\n,30M,f\n,2M,da\n,2M,da\n,8M,83\n,8M,82\n,8M,83\n';
const small = 'label: dos\n,1M,c\n,6M,f\n,512,83\n,512,83\n,1M,83\n,1M,83\n';

test('primary and logical partitions of an MBR are those that sfdisk shows', async () => {
  for (const script of ['label: dos\n,8M,83\n,8M,82\n,8M,83\n,,7\n', logical]) {
    const bytes = await sfdisk(script);
    assert.deepEqual(found(bytes).sort(), (await expected(bytes)).sort());
  }
});

test('partitions of a GPT are those that sfdisk shows, with names and types', async () => {
  const bytes = await sgdisk([
    '-n1:0:+4M',
    '-t1:ef00',
    '-c1:EFI',
    '-n3:0:+20M',
    '-t3:8304',
    '-c3:Wurzel ä',
    '-n7:0:0',
  ]);
  assert.deepEqual(found(bytes), await expected(bytes));
  const { table } = openDisk(memoryDevice(bytes));
  assert.deepEqual(
    table?.partitions.map(({ label, typeName }) => [label, typeName]),
    [
      ['EFI', 'EFI system'],
      ['Wurzel ä', 'Linux root (x86-64)'],
      ['', 'Linux filesystem'],
    ],
  );
  assert.deepEqual(table?.warnings, []);
});

test('a GPT with a damaged first header or first entries is read from its copy, and that is said', async () => {
  const bytes = await sgdisk(['-n1:0:+4M', '-n2:0:0']);
  const whole = found(bytes);
  for (const offset of [512 + 20, 512 + 60, 1024 + 32]) {
    const damaged = Buffer.from(bytes);
    damaged[offset] = (damaged[offset] ?? 0) ^ 0xff;
    assert.deepEqual(found(damaged), whole);
    assert.match(openDisk(memoryDevice(damaged)).table?.warnings[0] ?? '', /its copy is used/);
  }
  const lost = Buffer.from(bytes);
  lost.fill(1, 520, 700);
  lost.fill(1, lost.length - 500);
  assert.match(place(lost), /^EUCLEAN: .*GUID partition table/);
});

test('a GPT that an earlier use of the disk left behind an MBR is not taken', async () => {
  const bytes = await sgdisk(['-n1:0:+4M', '-n2:0:0']);
  const [before] = found(bytes);
  const mbr = await sfdisk('label: dos\n,8M,83\n,8M,83\n', bytes.length);
  mbr.copy(bytes, 0, 0, 512);
  assert.deepEqual(found(bytes), await expected(bytes));
  // Where nothing else is said it is what there is: its first sector is lost.
  bytes.fill(0, 0, 512);
  assert.equal(found(bytes)[0], before);
});

test('the only partition with a file system is taken; of several one must be chosen', async () => {
  const bytes = await sfdisk(logical);
  const [, , , second, , fourth] = found(bytes).map((line) => Number(line.split(/[:,] /)[1]) * 512);
  assert.ok(second !== undefined && fourth !== undefined);
  assert.match(place(bytes), /^EOPNOTSUPP: None of the partitions looks like ext2.*FAT32.*Linux/);
  putFilesystem(bytes, second);
  assert.equal(place(bytes), `${second}+${8 * mebibyte}`);
  putFilesystem(bytes, fourth);
  assert.match(
    place(bytes),
    /^EINVAL: The image holds 2 ext file systems: partition 5 .*partition 7 .*-o partition=7/,
  );
  assert.equal(place(bytes, { partition: 7 }), `${fourth}+${8 * mebibyte}`);
  assert.equal(place(bytes, { offsetBytes: second }), `${second}+${bytes.length - second}`);
  assert.match(
    place(bytes, { partition: 9 }),
    /^EINVAL: There is no partition 9; there are: 1, 3, 4, 5, 6, 7/,
  );
  assert.match(place(bytes, { partition: 5, offsetBytes: 0 }), /^EINVAL: .*not both/);
  assert.match(place(bytes, { offsetBytes: bytes.length }), /^EINVAL: .*beyond the end/);
});

test('an image without a partition table is a file system as a whole, also behind a boot sector', () => {
  const bytes = Buffer.alloc(mebibyte);
  assert.equal(place(bytes), `0+${mebibyte}`);
  assert.match(place(bytes, { partition: 1 }), /^EINVAL: The image has no partition table/);
  bytes.fill(0x33, 0, 510);
  bytes.writeUInt16BE(0x55aa, 510);
  putFilesystem(bytes, 0);
  assert.equal(place(bytes), `0+${mebibyte}`);
});

test('formats that Ebb does not read are named', async () => {
  for (const [format, name] of [
    ['vmdk', 'VMDK'],
    ['vdi', 'VDI'],
    ['vhdx', 'VHDX'],
    ['vpc', 'VHD'],
    ['qed', 'QED'],
  ] as const) {
    const file = path.join(directory.path, `foreign.${format}`);
    await runOk('qemu-img', ['create', '-q', '-f', format, file, '16M'], {
      debianPackage: 'qemu-utils',
    });
    assert.match(
      place(readFileSync(file)),
      new RegExp(`^EOPNOTSUPP: The image is a .*${name} image: convert`),
    );
  }
});

test('a partition that reaches beyond the end of the image is cut off there, and that is said', async () => {
  const bytes = await sfdisk('label: dos\n,8M,83\n,20M,83\n,20M,83\n');
  const cut = bytes.subarray(0, 20 * mebibyte);
  const problems = openDisk(memoryDevice(cut)).table?.partitions.map(({ problem }) => problem);
  assert.deepEqual(problems, [
    undefined,
    'it reaches beyond the end of the image',
    'it lies beyond the end of the image',
  ]);
  assert.equal(place(cut, { partition: 2 }), `${9 * mebibyte}+${11 * mebibyte}`);
  assert.match(place(cut, { partition: 3 }), /^EINVAL: Partition 3 cannot be used/);
});

test('a chain of logical partitions that loops ends', async () => {
  const bytes = await sfdisk(logical);
  const first = openDisk(memoryDevice(bytes)).table?.partitions.length ?? 0;
  const extended = bytes.readUInt32LE(446 + 16 + 8) * 512;
  // The second entry of the first EBR leads back to that EBR.
  bytes.writeUInt32LE(0, extended + 446 + 16 + 8);
  const { table } = openDisk(memoryDevice(bytes));
  assert.deepEqual(table?.warnings, ['the chain of logical partitions does not end']);
  assert.ok((table?.partitions.length ?? 99) < first);
});

test('whatever is wrong with a partition table is an error with a name', async () => {
  const mbr = await sfdisk(small, 16 * mebibyte);
  const logicalStarts = found(mbr)
    .map((line) => Number(line.split(/[:,] /)[1]))
    .slice(-2);
  const spans = [0, ...logicalStarts.map((sector) => (sector - 2048) * 512)];
  const tables = spans.map((start) => ({ start: start + 446, end: start + 512 }));
  mutate(mbr, tables, fuzzRuns / 2, parse);
  const gpt = await sgdisk(['-n1:0:+1M', '-n2:0:0'], 4 * mebibyte);
  const ends = { start: gpt.length - 512, end: gpt.length - 400 };
  mutate(gpt, [{ start: 446, end: 1200 }, ends], fuzzRuns / 2, parse);
});

function parse(bytes: Uint8Array): void {
  const disk = openDisk(memoryDevice(bytes));
  openPlace(disk, choosePlace(disk)).read(0, new Uint8Array(512));
}
