/** Recovery against a model, over journals in every form of the format; and journals that debugfs wrote. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { EbbError } from '../../../src/base/errors.ts';
import { memoryDevice } from '../../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../../src/ext4/block-device.ts';
import { decodeJournalSuperblock } from '../../../src/ext4/journal/journal-superblock.ts';
import type { JournalSuperblock } from '../../../src/ext4/journal/journal-superblock.ts';
import { JournalLog } from '../../../src/ext4/journal/log.ts';
import { ReplayOverlay } from '../../../src/ext4/journal/overlay.ts';
import { recoverLog } from '../../../src/ext4/journal/recover.ts';
import { openReplayed } from '../../../src/ext4/journal/replay.ts';
import { mutate } from '../../support/mutate.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { dirtyImage } from '../support/dirty.ts';
import { debugfs, makeImage, openImage } from '../support/images.ts';
import { contentOfBlock, journalBlockBytes, writeJournal } from '../support/journal-writer.ts';
import type { JournalForm, WrittenTransaction } from '../support/journal-writer.ts';

const runs = Number(process.env['EBB_JOURNAL_RUNS'] ?? 150);
const fuzzRuns = Number(process.env['EBB_FUZZ_RUNS'] ?? 400);
const journalBlocks = 400;
const imageBlocks = journalBlocks + 50;

const transactions: fc.Arbitrary<WrittenTransaction[]> = fc.array(
  fc.record({
    blocks: fc.uniqueArray(
      fc.tuple(
        fc.integer({ min: journalBlocks, max: imageBlocks - 1 }),
        fc.integer({ min: -2, max: 250 }),
      ),
      { maxLength: 30, selector: ([block]) => block },
    ),
    revoked: fc.uniqueArray(fc.integer({ min: journalBlocks, max: imageBlocks - 1 }), {
      maxLength: 8,
    }),
  }),
  { maxLength: 8 },
);

const forms: fc.Arbitrary<JournalForm> = fc.record({
  checksums: fc.constantFrom(0, 1, 2, 3),
  wide: fc.boolean(),
  asyncCommit: fc.boolean(),
  sequence: fc.oneof(fc.constantFrom(1, 0x7fffffff, 0xfffffffd, 0xffffffff), fc.nat(2 ** 31)),
  startBlock: fc.integer({ min: 1, max: journalBlocks - 1 }),
  blockCount: fc.constant(journalBlocks),
  sameUuid: fc.boolean(),
});

/** Blocks after the first `count` transactions: the last version that no later or same transaction revoked. */
function model(all: readonly WrittenTransaction[], count: number): Map<number, number> {
  const expected = new Map<number, number>();
  all.slice(0, count).forEach(({ blocks, revoked }) => {
    for (const [block, fill] of blocks) expected.set(block, fill);
    for (const block of revoked) expected.delete(block);
  });
  return expected;
}

function replay(image: Buffer): { overlay: ReplayOverlay; transactions: number } {
  const device = memoryDevice(image);
  const log = new JournalLog(device, journalBlockBytes, [
    { logicalBlock: 0, physicalBlock: 0, blockCount: journalBlocks, unwritten: false },
  ]);
  const superblock = decodeJournalSuperblock(
    log.block(0).slice(),
    journalBlockBytes,
    journalBlocks,
  );
  const recovery = recoverLog(log, superblock);
  const overlay = new ReplayOverlay(device, log, superblock, recovery.blocks);
  return { overlay, transactions: recovery.transactions };
}

function mustShow(overlay: ReplayOverlay, expected: ReadonlyMap<number, number>): void {
  const all = Buffer.alloc((imageBlocks - journalBlocks) * journalBlockBytes);
  overlay.read(journalBlocks * journalBlockBytes, all);
  for (let block = journalBlocks; block < imageBlocks; block += 1) {
    const start = (block - journalBlocks) * journalBlockBytes;
    const wanted = contentOfBlock(expected.get(block) ?? 0xdd);
    assert.ok(all.subarray(start, start + journalBlockBytes).equals(wanted), `block ${block}`);
  }
}

function imageOf(journal: Buffer): Buffer {
  return Buffer.concat([
    journal,
    Buffer.alloc((imageBlocks - journalBlocks) * journalBlockBytes, 0xdd),
  ]);
}

test('every form of a journal gives the newest blocks that were not revoked, also where log and numbers wrap', () => {
  fc.assert(
    fc.property(forms, transactions, (form, written) => {
      const { overlay, transactions: count } = replay(imageOf(writeJournal(form, written).bytes));
      assert.equal(count, written.length);
      mustShow(overlay, model(written, written.length));
    }),
    { numRuns: runs },
  );
});

test('a log that stops before a commit ends with the transaction before it', () => {
  fc.assert(
    fc.property(forms, transactions, fc.nat(20), (form, written, place) => {
      const { bytes, commits } = writeJournal(form, written);
      const lost = commits[place];
      if (lost === undefined) return;
      bytes.fill(0, lost * journalBlockBytes, (lost + 1) * journalBlockBytes);
      const { overlay, transactions: count } = replay(imageOf(bytes));
      assert.equal(count, place);
      mustShow(overlay, model(written, place));
    }),
    { numRuns: runs },
  );
});

test('a wrong checksum of a commit is damage; with asynchronous commits it is the end, when it is the last', () => {
  fc.assert(
    fc.property(forms, transactions, fc.nat(20), (form, written, place) => {
      const { bytes, commits } = writeJournal(form, written);
      const wrong = commits[place];
      if (wrong === undefined || form.checksums === 0) return;
      const at = wrong * journalBlockBytes + 18;
      bytes[at] = (bytes[at] ?? 0) ^ 0x55;
      if (form.asyncCommit && place === written.length - 1) {
        mustShow(replay(imageOf(bytes)).overlay, model(written, place));
      } else {
        assert.throws(() => replay(imageOf(bytes)), isDamage);
      }
    }),
    { numRuns: runs },
  );
});

test('a block with a wrong checksum is an error for who reads it, and only for him', () => {
  const written = [
    {
      blocks: [
        [410, 1],
        [411, 2],
        [412, 3],
      ] as const,
      revoked: [],
    },
  ];
  for (const checksums of [2, 3] as const) {
    const form = {
      checksums,
      wide: true,
      asyncCommit: false,
      sequence: 5,
      startBlock: 1,
      blockCount: journalBlocks,
      sameUuid: true,
    };
    const { bytes } = writeJournal(form, written);
    bytes.fill(9, 3 * journalBlockBytes, 3 * journalBlockBytes + 4);
    const { overlay } = replay(imageOf(bytes));
    const block = Buffer.alloc(journalBlockBytes);
    assert.throws(() => overlay.read(411 * journalBlockBytes, block), isDamage);
    for (const [number, fill] of [
      [410, 1],
      [412, 3],
    ] as const) {
      overlay.read(number * journalBlockBytes, block);
      assert.ok(block.equals(contentOfBlock(fill)));
    }
    assert.ok(overlay.covers(0, imageBlocks) && overlay.covers(412, 1) && !overlay.covers(413, 30));
  }
});

test('a log whose descriptors lead round and round ends', () => {
  const form = {
    checksums: 0,
    wide: false,
    asyncCommit: false,
    sequence: 5,
    startBlock: 1,
    blockCount: journalBlocks,
    sameUuid: true,
  } as const;
  const bytes = Buffer.alloc(journalBlocks * journalBlockBytes);
  const { bytes: first } = writeJournal(form, [{ blocks: [[410, 1]], revoked: [] }]);
  first.copy(bytes, 0, 0, 2 * journalBlockBytes);
  for (let block = 2; block < journalBlocks; block += 1) {
    first.copy(bytes, block * journalBlockBytes, journalBlockBytes, 2 * journalBlockBytes);
  }
  assert.throws(() => replay(imageOf(bytes)), isDamage);
});

test('of a log as large as an image can claim no more is summed than of the largest real one', () => {
  const blockSizeBytes = 65_536;
  const blockCount = 2 ** 20;
  // Descriptors as full as they get, and nothing but holes behind them.
  const record = new Uint8Array(blockSizeBytes);
  const view = new DataView(record.buffer);
  [0xc03b3998, 1, 5].forEach((value, index) => view.setUint32(4 * index, value));
  const perRecord = Math.floor((blockSizeBytes - 12) / 8);
  for (let tag = 0; tag < perRecord; tag += 1) {
    view.setUint16(12 + 8 * tag + 6, tag === perRecord - 1 ? 0xa : 0x2);
  }
  let readBytes = 0;
  const device: BlockDevice = {
    sizeBytes: blockCount * blockSizeBytes,
    read(offset, into) {
      readBytes += into.length;
      const place = (offset / blockSizeBytes - 1) % (perRecord + 1);
      if (place === 0) into.set(record);
    },
  };
  const extent = { logicalBlock: 0, physicalBlock: 0, blockCount, unwritten: false };
  const log = new JournalLog(device, blockSizeBytes, [extent]);
  const superblock: JournalSuperblock = {
    blockCount,
    firstBlock: 1,
    logEnd: blockCount,
    startBlock: 1,
    sequence: 5,
    wide: false,
    asyncCommit: false,
    checksums: 1,
    fastCommit: false,
    checksumSeed: 0,
  };
  assert.throws(
    () => recoverLog(log, superblock),
    (error) => error instanceof EbbError && error.code === 'EOPNOTSUPP',
  );
  assert.ok(readBytes < 1.1 * 1024 ** 3, `${readBytes}`);
});

test('transactions and revocations that debugfs wrote are replayed as it replays them', async () => {
  await using directory = await temporaryDirectory('journal-debugfs');
  const image = await makeImage(directory.path, ['-t', 'ext4', '-b', '1024'], 16 * 1024 * 1024);
  const source = path.join(directory.path, 'source');
  writeFileSync(source, Buffer.alloc(5 * 1024, 'written by debugfs '));
  for (const kind of ['', ' -c']) {
    await debugfs(image, [
      `jo${kind}`,
      `jw -b 3000,3001,3002,3003,3004 ${source}`,
      'jw -r 3001,3003',
      'jc',
    ]);
    const before = readFileSync(image);
    const device = memoryDevice(before);
    const replayed = openReplayed(device);
    assert.equal(replayed.replay.transactions, 2);
    await debugfs(image, ['jr']);
    const expected = readFileSync(image);
    for (let block = 2990; block < 3010; block += 1) {
      const found = Buffer.alloc(1024);
      replayed.device.read(block * 1024, found);
      assert.ok(
        found.equals(expected.subarray(block * 1024, (block + 1) * 1024)),
        `block ${block}`,
      );
    }
  }
});

test('journals that reach out of the file system or into themselves are damage', async () => {
  await using directory = await temporaryDirectory('journal-reach');
  const image = await makeImage(directory.path, ['-t', 'ext4', '-b', '1024'], 16 * 1024 * 1024);
  const source = path.join(directory.path, 'source');
  writeFileSync(source, Buffer.alloc(1024, 1));
  const { journalInode } = openReplayed(memoryDevice(readFileSync(image))).volume.superblock;
  const own = (await debugfs(image, [`blocks <${journalInode}>`])).match(/\n(\d+) /)?.[1];
  await debugfs(image, ['jo', `jw -b 3000 ${source}`, 'jc']);
  const bytes = readFileSync(image);
  // The first tag of the first descriptor.
  const tag = (Number(own) + 1) * 1024 + 12;
  assert.equal(bytes.readUInt32BE(tag), 3000);
  assert.equal(openReplayed(memoryDevice(bytes)).replay.blocks, 1);
  for (const block of [Number(own) + 7, 16_384, 0xffffffff]) {
    bytes.writeUInt32BE(block, tag);
    assert.throws(() => openReplayed(memoryDevice(bytes)), isDamage, `block ${block}`);
    assert.equal(openReplayed(memoryDevice(bytes), { journal: 'ignore' }).replay.state, 'ignored');
  }
});

test('a journal on another device is refused by name, and only while it is needed', async () => {
  await using directory = await temporaryDirectory('journal-external');
  const journal = await makeImage(
    directory.path,
    ['-O', 'journal_dev'],
    8 * 1024 * 1024,
    'journal',
  );
  const words = ['-t', 'ext4', '-b', '4096', '-J', 'size=4'];
  const image = await makeImage(directory.path, words, 16 * 1024 * 1024);
  assert.ok(journal.length > 0);
  await debugfs(image, [
    'ssv journal_inum 0',
    `ssv journal_uuid 01234567-89ab-cdef-0123-456789abcdef`,
  ]);
  assert.equal(openReplayed(memoryDevice(readFileSync(image))).replay.state, 'none');
  await debugfs(image, ['feature needs_recovery']);
  const bytes = readFileSync(image);
  assert.throws(
    () => openReplayed(memoryDevice(bytes)),
    (error) =>
      error instanceof EbbError &&
      error.code === 'EOPNOTSUPP' &&
      /another device/.test(error.message),
  );
});

test('whatever is wrong with a journal is an error with a name', async () => {
  await using directory = await temporaryDirectory('journal-fuzz');
  const load = 'for i in $(seq 1 30); do echo $i > f$i; sync f$i; rm -f f$((i - 2)); done';
  const image = await dirtyImage(directory.path, { load, sizeBytes: 16 * 1024 * 1024 });
  using device = openImage(image);
  const { volume } = openReplayed(device, { journal: 'ignore' });
  const [extent] = volume.extents(volume.inode(volume.superblock.journalInode));
  assert.ok(extent !== undefined);
  const start = extent.physicalBlock * volume.superblock.blockSizeBytes;
  const bytes = readFileSync(image);
  const spans = [
    { start, end: start + 256 },
    { start: start + 1024, end: start + 60 * 1024 },
  ];
  const into = new Uint8Array(64 * 1024);
  mutate(bytes, spans, fuzzRuns, (mutant) => {
    const replayed = openReplayed(memoryDevice(mutant));
    for (let at = 0; at + into.length < mutant.length; at += 1024 * 1024)
      replayed.device.read(at, into);
  });
  // Without checksums the records themselves are what is read.
  for (const checksums of [0, 1, 2] as const) {
    const form = {
      checksums,
      wide: false,
      asyncCommit: true,
      sequence: 7,
      startBlock: 380,
      blockCount: journalBlocks,
      sameUuid: false,
    };
    const made = imageOf(
      writeJournal(form, [
        {
          blocks: [
            [401, 1],
            [402, 2],
          ],
          revoked: [403],
        },
        {
          blocks: [
            [403, 1],
            [404, 2],
          ],
          revoked: [401],
        },
      ]).bytes,
    );
    const log = { start: 379 * journalBlockBytes, end: journalBlocks * journalBlockBytes };
    mutate(
      made,
      [{ start: 0, end: 96 }, log],
      fuzzRuns,
      (mutant) => void replay(Buffer.from(mutant.buffer, mutant.byteOffset, mutant.length)),
    );
  }
});

function isDamage(error: unknown): boolean {
  return error instanceof EbbError && error.code === 'EUCLEAN';
}
