/**
 * Features of ext4 together, as chance has them: filled through the kernel, what is read is what the kernel says, and
 * neither `check` nor e2fsck complain. EBB_EXT4_COMBINATIONS: how many (2), EBB_SEED: from which one on. Needs root.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openVolume } from '../../src/ext4/volume.ts';
import { Check } from '../../src/image/reader/check.ts';
import type { ImageLine } from '../../src/image/reader/lines.ts';
import { loopMount } from '../support/loop-mount.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { compareWithKernel } from './support/compare.ts';
import { openImage } from './support/images.ts';
import { Dice } from './support/mutate.ts';
import { profileImage } from './support/profiles.ts';

const first = Number(process.env['EBB_SEED'] ?? 1);
const count = Number(process.env['EBB_EXT4_COMBINATIONS'] ?? 2);
const mebibyte = 1024 * 1024;

/** Each is there or not, whatever the others are. */
const independent = [
  'has_journal',
  'ea_inode',
  'large_dir',
  'dir_index',
  'large_file',
  'huge_file',
  'dir_nlink',
  'extra_isize',
  'stable_inodes',
  'verity',
  'encrypt',
];

/** Parameters of mke2fs which go together. */
function parametersOf(seed: number): string[] {
  const dice = new Dice(seed);
  const isOneOf = (odds: number): boolean => dice.below(odds) === 0;
  const features: string[] = [];
  const set = (name: string, isSet: boolean): boolean => {
    features.push(isSet ? name : `^${name}`);
    return isSet;
  };
  const blockBytes = dice.of([1024, 2048, 4096]);
  const inodeBytes = dice.of([128, 256, 512, 1024]);
  for (const name of independent) set(name, isOneOf(2));
  const hasExtents = set('extent', !isOneOf(4));
  set('64bit', hasExtents && isOneOf(2));
  const isFlexible = set('flex_bg', isOneOf(2));
  const hasChecksums = set('metadata_csum', isOneOf(2));
  if (hasChecksums) set('metadata_csum_seed', isOneOf(2));
  else set('uninit_bg', isOneOf(2));
  // With checksums the kernel (6.18) writes some types where there should be none, and e2fsck complains.
  set('filetype', hasChecksums || isOneOf(2));
  set('inline_data', inodeBytes > 128 && isOneOf(2));
  const isSparse = set('sparse_super', isOneOf(2));
  const backups = dice.of(['meta_bg', 'sparse_super2', '']);
  if (backups !== '') set(backups, true);
  if (backups !== '' || !isSparse) set('resize_inode', false);
  for (const name of ['orphan_file', 'fast_commit']) {
    if (isOneOf(3)) features.push(name, 'has_journal');
  }
  const words = ['-t', 'ext4', '-b', `${blockBytes}`, '-I', `${inodeBytes}`];
  if (set('bigalloc', hasExtents && isOneOf(4)))
    words.push('-C', `${blockBytes * dice.of([2, 4, 16])}`);
  else if (isOneOf(3)) words.push('-g', `${blockBytes * dice.of([1, 2, 4])}`);
  if (isFlexible && isOneOf(2)) words.push('-G', `${dice.of([2, 8, 64])}`);
  return [...words, '-O', features.join(',')];
}

for (let seed = first; seed < first + count; seed += 1) {
  const parameters = parametersOf(seed);
  test(`the kernel agrees about features by chance, ${seed}`, async (t) => {
    t.diagnostic(parameters.join(' '));
    await using scratch = await temporaryDirectory('combination');
    const profile = { name: `${seed}`, parameters, flatCount: 1500, sizeMiB: 128 };
    const image = await profileImage(scratch.path, profile, { farthestBytes: 80 * mebibyte });
    await using mounted = await loopMount(image, { mountOptions: 'ro' });
    using device = openImage(image);
    const { files, attributes } = compareWithKernel(openVolume(device), mounted.path);
    assert.ok(files > 1500 && attributes > 20);
    const complaints: ImageLine[] = [];
    const output = {
      line: (line: ImageLine) => void ('error' in line && complaints.push(line)),
      data: () => undefined,
    };
    new Check(openVolume(device), output).run();
    assert.deepEqual(complaints, []);
  });
}
