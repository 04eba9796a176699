/**
 * Damaged images: whatever is in them, the reader answers, in bounded time, with an errno or with
 * something that keeps the contract. EBB_EXT4_FUZZ=1000000 tries that many inputs, from a new seed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { openVolume } from '../../src/ext4/volume.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { makeSmallTree, makeSubject, subjects } from './support/fuzz-subjects.ts';
import { Dice, findTargets, Mutator } from './support/mutate.ts';
import { Resealer } from './support/reseal.ts';
import { surveyVolume } from './support/walk.ts';
import type { Survey } from './support/walk.ts';

const asked = process.env['EBB_EXT4_FUZZ'];
const inputsPerImage = Math.ceil(Number(asked ?? 100_000) / 8);
const seed = asked === undefined ? 1 : Date.now() % 2 ** 32;

/** What one input may cost: so much that only something without an end exceeds it. */
const limits = { entriesMax: 3000, readMaxBytes: 8 * 1024 * 1024 };
const readsMax = 60_000;
const processorMaxMs = 5000;
/** Of this process at its peak: the reader and what tries it. */
const memoryMaxKiB = 512 * 1024;

for (const [index, subject] of subjects.entries()) {
  test(`damaged images of ${subject.name} are answered`, async () => {
    await using scratch = await temporaryDirectory('fuzz');
    const source = await makeSmallTree(scratch.path);
    const image = await makeSubject(scratch.path, source, subject);
    const sound = memoryDevice(image);
    const healthy = surveyVolume(() => openVolume(sound), limits);
    assert.ok(healthy.entries > 100, `${healthy.entries} entries`);
    const unexpected = [...healthy.errors.keys()].filter((code) => code !== 'ENOKEY');
    assert.deepEqual(unexpected, []);
    assert.equal(healthy.errors.has('ENOKEY'), subject.name.startsWith('encrypt'));
    const before = Buffer.from(image);

    const { blockSizeBytes } = openVolume(sound).superblock;
    const hasChecksums = openVolume(sound).superblock.features.has('metadata_csum');
    const resealer = hasChecksums ? new Resealer(image, sound) : undefined;
    resealer?.sealAll();
    assert.ok(Buffer.compare(before, image) === 0, 'what is sound is sealed as it was');
    const mutator = new Mutator(image, findTargets(image, sound), blockSizeBytes);
    const total: Survey = { entries: 0, readBytes: 0, extents: 0, errors: new Map() };
    for (let input = 0; input < inputsPerImage; input += 1) {
      const dice = new Dice((seed + index * 0x9e3779b1 + input * 0x85ebca6b) >>> 0);
      const what = `seed ${seed}, ${subject.name}, input ${input}`;
      // Attackers compute checksums as well. Where there are none, and for one in four, they are left as they are.
      const isSealed = resealer !== undefined && dice.below(4) > 0;
      mutator.mutate(dice, isSealed ? resealer : undefined);
      let reads = 0;
      const device = {
        sizeBytes: sound.sizeBytes,
        read(offset: number, into: Uint8Array): void {
          reads += 1;
          sound.read(offset, into);
        },
      };
      const start = process.cpuUsage();
      const verifyChecksums = isSealed || dice.below(2) === 0;
      try {
        const survey = surveyVolume(() => openVolume(device, { verifyChecksums }), limits);
        total.entries += survey.entries;
        for (const [code, count] of survey.errors) {
          total.errors.set(code, (total.errors.get(code) ?? 0) + count);
        }
      } catch (error) {
        throw new Error(what, { cause: error });
      }
      const { user, system } = process.cpuUsage(start);
      assert.ok(reads < readsMax, `${what}: ${reads} reads`);
      assert.ok((user + system) / 1000 < processorMaxMs, `${what}: ${user + system} us`);
      mutator.undo();
    }
    assert.ok(Buffer.compare(before, image) === 0, 'the image is as it was');
    const { maxRSS } = process.resourceUsage();
    assert.ok(maxRSS <= memoryMaxKiB, `${maxRSS} KiB`);
    // The damage is felt, and what is left is read nevertheless.
    assert.ok((total.errors.get('EUCLEAN') ?? 0) > inputsPerImage / 20);
    assert.ok(total.entries > inputsPerImage * 10);
    const known = [
      'EUCLEAN',
      'EOPNOTSUPP',
      'EIO',
      'ENOKEY',
      'ENOENT',
      'ENOTDIR',
      'EINVAL',
      'EISDIR',
    ];
    assert.deepEqual(
      [...total.errors.keys()].filter((code) => !known.includes(code)),
      [],
    );
  });
}
