/** File systems in loop-mounted images, for tests that need a real one. Root, e2fsprogs, xfsprogs, btrfs-progs. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { loopMountSync } from '../../support/loop-mount.ts';
import { temporaryDirectory } from './cache.ts';

export type ImageType = 'ext4' | 'xfs' | 'btrfs';

const makers: Readonly<Record<ImageType, { command: string[]; package: string; bytes: number }>> = {
  ext4: { command: ['mkfs.ext4', '-q', '-F'], package: 'e2fsprogs', bytes: 128 * 2 ** 20 },
  xfs: { command: ['mkfs.xfs', '-q', '-f'], package: 'xfsprogs', bytes: 320 * 2 ** 20 },
  btrfs: { command: ['mkfs.btrfs', '-q', '-f'], package: 'btrfs-progs', bytes: 256 * 2 ** 20 },
};

export interface MountedDirectory extends Disposable {
  readonly path: string;
}

/** A new file system of this type, mounted; gone when disposed. */
export function mountImage(
  type: ImageType,
  mkfsArguments: readonly string[] = [],
): MountedDirectory {
  const { command, package: needed, bytes } = makers[type];
  const directory = temporaryDirectory();
  try {
    const image = path.join(directory.path, 'image');
    writeFileSync(image, '');
    truncateSync(image, bytes);
    const [program = '', ...args] = command;
    run(program, [...args, ...mkfsArguments, image], `install the package ${needed}`);
    return mountAt(directory, (mountPoint) => loopMountSync(image, mountPoint, { type }));
  } catch (error) {
    directory[Symbol.dispose]();
    throw error;
  }
}

/** A tmpfs of this size, mounted; gone when disposed. */
export function mountTmpfs(sizeBytes: number): MountedDirectory {
  const args = ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs'];
  return mountAt(temporaryDirectory(), (mountPoint) =>
    run('mount', [...args, mountPoint], 'this test needs root'),
  );
}

function mountAt(
  directory: Disposable & { readonly path: string },
  mount: (mountPoint: string) => void,
): MountedDirectory {
  const mountPoint = path.join(directory.path, 'mount');
  mkdirSync(mountPoint);
  mount(mountPoint);
  return {
    path: mountPoint,
    [Symbol.dispose]: () => {
      spawnSync('umount', ['--lazy', mountPoint]);
      directory[Symbol.dispose]();
    },
  };
}

export function run(program: string, args: readonly string[], hint: string): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 30_000 });
  if (error !== undefined || status !== 0) {
    throw new Error(`${program} failed (${hint}): ${error?.message ?? stderr}`);
  }
}
