/**
 * What tests borrow from the machine and always give back: directories, loop-mounted filesystems.
 * All are `AsyncDisposable`: `await using directory = await temporaryDirectory('name')`. Mounts
 * that a failed test left below a temporary directory are detached lazily before anything is
 * deleted, so that cleaning up never walks into a foreign filesystem.
 */
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { run, runOk } from './run.ts';
import { waitFor } from './wait-for.ts';

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/**
 * Makes an empty directory (mode 0700) under `parent`. Disposing detaches mounts below it,
 * then removes it. `name` becomes part of the path, so that leftovers can be told apart.
 */
export async function temporaryDirectory(
  name = 'test',
  parent = os.tmpdir(),
): Promise<TemporaryDirectory> {
  const directory = await mkdtemp(path.join(parent, `ebb-${name}-`));
  return {
    path: directory,
    async [Symbol.asyncDispose]() {
      await detachMountsBelow(directory);
      await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/**
 * Mount points at or below `directory`, deepest (latest) first. Reads mountinfo only: touches no
 * filesystem.
 */
export async function mountsBelow(directory: string): Promise<string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  const points = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => unescapeMountPath(line.split(' ')[4] ?? ''));
  return points
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}

/** Lazily unmounts all that is mounted at or below `directory`; throws if something stays. */
export async function detachMountsBelow(directory: string): Promise<void> {
  for (const point of await mountsBelow(directory)) {
    await run('umount', ['--lazy', point], { timeoutMs: 10_000 });
  }
  const left = await mountsBelow(directory);
  if (left.length > 0) throw new Error(`still mounted: ${left.join(', ')}`);
}

/**
 * mountinfo writes space, tab, newline and backslash as three octal digits (proc_pid_mountinfo(5)).
 */
function unescapeMountPath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

export type LoopFilesystemType = 'ext4' | 'xfs' | 'btrfs';

export interface LoopFilesystemOptions {
  readonly type: LoopFilesystemType;
  /**
   * Apparent size of the (sparse) image. Default 512 MiB: the least that all three mkfs tools
   * accept.
   */
  readonly sizeBytes?: number;
  readonly mkfsArguments?: readonly string[];
  /** `-o` of mount(8). Default `noatime`. */
  readonly mountOptions?: string;
}

export interface LoopFilesystem extends AsyncDisposable {
  readonly type: LoopFilesystemType;
  /** Where it is mounted: the root of an empty filesystem. */
  readonly path: string;
  /** `/dev/loopN` */
  readonly device: string;
  /** The image file, outside of the filesystem. */
  readonly imagePath: string;
}

const mkfsPackages: Readonly<Record<LoopFilesystemType, string>> = {
  ext4: 'e2fsprogs',
  xfs: 'xfsprogs',
  btrfs: 'btrfs-progs',
};

const defaultLoopSizeBytes = 512 * 1024 * 1024;

/**
 * Makes a filesystem in a sparse file and mounts it. Needs root. Disposing unmounts, frees the loop
 * device, deletes.
 */
export async function loopFilesystem(options: LoopFilesystemOptions): Promise<LoopFilesystem> {
  if (process.getuid?.() !== 0) throw new Error('a loop-mounted filesystem needs root');
  const directory = await temporaryDirectory(`loop-${options.type}`);
  const imagePath = path.join(directory.path, 'image');
  const mountPoint = path.join(directory.path, 'mount');
  let device = '';
  const dispose = async (): Promise<void> => {
    await run('umount', [mountPoint], { timeoutMs: 20_000 });
    await detachMountsBelow(directory.path);
    if (device !== '') await run('losetup', ['--detach', device], { timeoutMs: 20_000 });
    await directory[Symbol.asyncDispose]();
  };
  try {
    await mkdir(mountPoint);
    await writeFile(imagePath, '');
    await truncate(imagePath, options.sizeBytes ?? defaultLoopSizeBytes);
    await makeFilesystem(options, imagePath);
    device = await attachLoopDevice(imagePath);
    const mountOptions = options.mountOptions ?? 'noatime';
    await runOk('mount', ['-t', options.type, '-o', mountOptions, device, mountPoint], {
      timeoutMs: 30_000,
    });
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    type: options.type,
    path: mountPoint,
    device,
    imagePath,
    [Symbol.asyncDispose]: dispose,
  };
}

async function makeFilesystem(options: LoopFilesystemOptions, imagePath: string): Promise<void> {
  const force = options.type === 'ext4' ? '-F' : '-f';
  await runOk(
    `mkfs.${options.type}`,
    ['-q', force, ...(options.mkfsArguments ?? []), imagePath].map(String),
    { timeoutMs: 60_000, debianPackage: mkfsPackages[options.type] },
  );
}

/**
 * `losetup --find` may lose a race against another process that takes the same free device: it is
 * tried again.
 */
async function attachLoopDevice(imagePath: string): Promise<string> {
  let device = '';
  await waitFor(
    async () => {
      const result = await run('losetup', ['--find', '--show', imagePath], { timeoutMs: 20_000 });
      device = result.code === 0 ? result.stdout.toString().trim() : '';
      return device !== '';
    },
    { what: 'a free loop device', timeoutMs: 10_000, intervalMs: 100 },
  );
  return device;
}
