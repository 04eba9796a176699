/** File systems of every form that mke2fs makes and the kernel mounts, filled through the kernel. */
import path from 'node:path';
import { openVolume } from '../../../src/ext4/volume.ts';
import { loopMount } from '../../support/loop-mount.ts';
import { runOk } from '../../support/run.ts';
import { debugfs, makeImage, mustBeClean, openImage } from './images.ts';
import { populate } from './populate.ts';
import type { PopulateOptions } from './populate.ts';
import { randomTree } from './random-tree.ts';

export interface Profile {
  readonly name: string;
  /** Of mke2fs. */
  readonly parameters: readonly string[];
  readonly sizeMiB?: number;
  readonly flatCount?: number;
  /** Before it is filled. */
  readonly debugfs?: readonly string[];
  /** Of tune2fs, before and after it is filled. */
  readonly tuneBefore?: readonly string[];
  readonly tuneAfter?: readonly string[];
  /** Features that it must have in the end: that it is what it says. */
  readonly features?: readonly string[];
}

/** Forms that the kernel mounts and fills. */
export const profiles: readonly Profile[] = [
  { name: 'ext2, 1 KiB blocks', parameters: ['-t', 'ext2', '-b', '1024'], flatCount: 3000 },
  { name: 'ext2, 4 KiB blocks', parameters: ['-t', 'ext2', '-b', '4096'] },
  { name: 'ext2 of revision 0', parameters: ['-t', 'ext2', '-r', '0', '-b', '1024'] },
  { name: 'ext3', parameters: ['-t', 'ext3', '-b', '4096', '-I', '128'] },
  {
    name: 'ext4 by default',
    parameters: ['-t', 'ext4', '-b', '4096'],
    flatCount: 20_000,
    features: ['extent', 'metadata_csum', '64bit', 'flex_bg', 'huge_file', 'dir_nlink'],
  },
  { name: 'ext4, 1 KiB blocks', parameters: ['-t', 'ext4', '-b', '1024'], flatCount: 12_000 },
  { name: 'ext4, 2 KiB blocks', parameters: ['-t', 'ext4', '-b', '2048', '-I', '1024'] },
  { name: 'inodes of 128 bytes', parameters: ['-t', 'ext4', '-I', '128'] },
  { name: 'inodes of 4 KiB', parameters: ['-t', 'ext4', '-b', '4096', '-I', '4096'] },
  { name: 'ext4 without extents', parameters: ['-t', 'ext4', '-O', '^extent,^64bit'] },
  { name: 'ext4 without flex_bg', parameters: ['-t', 'ext4', '-O', '^flex_bg', '-g', '4096'] },
  {
    name: 'meta_bg',
    parameters: ['-t', 'ext4', '-b', '1024', '-g', '256', '-O', 'meta_bg,^resize_inode'],
    features: ['meta_bg'],
  },
  {
    name: 'meta_bg with narrow descriptors',
    parameters: [
      '-t',
      'ext4',
      '-b',
      '1024',
      '-g',
      '256',
      '-O',
      'meta_bg,^resize_inode,^64bit,^flex_bg',
    ],
  },
  {
    name: 'bigalloc',
    parameters: ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '65536'],
    sizeMiB: 256,
    features: ['bigalloc'],
  },
  {
    name: 'bigalloc with 1 KiB blocks',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc', '-C', '16384'],
    sizeMiB: 128,
  },
  {
    name: 'inline_data',
    parameters: ['-t', 'ext4', '-O', 'inline_data', '-I', '512'],
    features: ['inline_data'],
  },
  { name: 'ea_inode', parameters: ['-t', 'ext4', '-O', 'ea_inode'], features: ['ea_inode'] },
  {
    name: 'large_dir',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'large_dir'],
    flatCount: 6000,
    features: ['large_dir'],
  },
  {
    name: 'metadata_csum_seed and orphan_file',
    parameters: ['-t', 'ext4', '-O', 'metadata_csum_seed,orphan_file'],
    tuneAfter: ['-U', 'random'],
    features: ['metadata_csum_seed', 'orphan_file'],
  },
  {
    name: 'sparse_super2',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'sparse_super2,^resize_inode'],
    features: ['sparse_super2'],
  },
  {
    name: 'uninit_bg',
    parameters: ['-t', 'ext4', '-O', '^metadata_csum,uninit_bg'],
    features: ['uninit_bg'],
  },
  { name: 'no checksums', parameters: ['-t', 'ext4', '-O', '^metadata_csum,^uninit_bg'] },
  {
    name: 'quota, project and verity',
    parameters: ['-t', 'ext4', '-O', 'verity,stable_inodes,fast_commit'],
    tuneAfter: ['-O', 'quota,project'],
    features: ['quota', 'project', 'verity', 'stable_inodes'],
  },
  {
    name: 'the legacy hash',
    parameters: ['-t', 'ext4', '-b', '1024'],
    tuneBefore: ['-E', 'hash_alg=legacy'],
    flatCount: 3000,
  },
  {
    name: 'the TEA hash over unsigned bytes',
    parameters: ['-t', 'ext4', '-b', '1024'],
    tuneBefore: ['-E', 'hash_alg=tea'],
    debugfs: ['ssv flags 2'],
    flatCount: 3000,
  },
  {
    name: 'half MD4 over unsigned bytes',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum'],
    debugfs: ['ssv flags 2'],
    flatCount: 3000,
  },
];

const seed = Number(process.env['EBB_SEED'] ?? 1);

/** Makes an image of that form below `directory` and fills it (EBB_SEED: with another random tree). Its path. */
export async function profileImage(
  directory: string,
  profile: Profile,
  options: Omit<PopulateOptions, 'blockSizeBytes'> = {},
): Promise<string> {
  const sizeBytes = (profile.sizeMiB ?? 96) * 1024 * 1024;
  const image = await makeImage(directory, ['-N', '8192', ...profile.parameters], sizeBytes);
  if (profile.tuneBefore !== undefined) await runOk('tune2fs', [...profile.tuneBefore, image]);
  if (profile.debugfs !== undefined) await debugfs(image, profile.debugfs);
  {
    await using mounted = await loopMount(image, { mountOptions: 'noatime,nobarrier' });
    using device = openImage(image);
    const { blockSizeBytes } = openVolume(device).superblock;
    const { flatCount } = profile;
    await populate(mounted.path, { flatCount, ...options, blockSizeBytes });
    randomTree(path.join(mounted.path, 'random'), seed);
  }
  if (profile.tuneAfter !== undefined) await runOk('tune2fs', [...profile.tuneAfter, image]);
  await mustBeClean(image);
  return image;
}
