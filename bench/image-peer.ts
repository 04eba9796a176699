/**
 * An ext4 image and the ways to look into it: the kernel's driver over a loop device, Debian's fuse2fs, and Ebb's three
 * mounts: through FUSE as root (large files mapped), native, and through FUSE as an ordinary user.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { mountImage } from '../test/image/fixture.ts';
import { noise } from '../test/support/corpus.ts';
import { loopMount } from '../test/support/loop-mount.ts';
import { killAtExit, killGroup, runOk } from '../test/support/run.ts';
import { detachMountsBelow, mountsBelow, temporaryDirectory } from '../test/support/temporary.ts';
import type { TemporaryDirectory } from '../test/support/temporary.ts';
import { waitFor } from '../test/support/wait-for.ts';
import { fewBytes, writeManyFiles } from './many-files.ts';
import { collectGarbage } from './measure.ts';
import type { User } from './measure.ts';

export type ImagePeer = 'kernel' | 'fuse2fs' | 'ebb' | 'ebb-native' | 'ebb-user';

export const imagePeers: readonly ImagePeer[] = [
  'kernel',
  'fuse2fs',
  'ebb',
  'ebb-native',
  'ebb-user',
];

/** Mounted, and readable by `user` alone if there is one. */
export interface MountedImagePeer extends AsyncDisposable {
  readonly path: string;
  /** The process that serves; 0: the kernel. */
  readonly pid: number;
  readonly user: User | undefined;
}

/** `nobody`: fusermount3 insists on an account with a name. */
const ordinaryUser: User = { uid: 65_534, gid: 65_534 };
const mountTimeoutMs = 60_000;
const fuseDevice = '/dev/fuse';

export function mountImagePeer(peer: ImagePeer, image: string): Promise<MountedImagePeer> {
  switch (peer) {
    case 'kernel':
      return kernelMount(image);
    case 'fuse2fs':
      return fuse2fsMount(image);
    case 'ebb':
      return ebbMount(image, '');
    case 'ebb-native':
      return ebbMount(image, 'native');
    case 'ebb-user':
      return userMount(image);
  }
}

async function ebbMount(image: string, options: string, user?: User): Promise<MountedImagePeer> {
  const mount = await mountImage({ path: image }, options, user);
  return {
    path: mount.path,
    pid: mount.serverPid,
    user,
    [Symbol.asyncDispose]: () => mount[Symbol.asyncDispose](),
  };
}

/** udev makes /dev/fuse 0666; a bare virtual machine may not have udev. */
async function userMount(image: string): Promise<MountedImagePeer> {
  const { mode } = statSync(fuseDevice);
  chmodSync(fuseDevice, 0o666);
  try {
    return await ebbMount(image, '', ordinaryUser);
  } finally {
    chmodSync(fuseDevice, mode & 0o777);
  }
}

async function mountPointIn(): Promise<{ directory: TemporaryDirectory; mountPoint: string }> {
  const directory = await temporaryDirectory('bench-image');
  const mountPoint = path.join(directory.path, 'mnt');
  mkdirSync(mountPoint);
  return { directory, mountPoint };
}

async function kernelMount(image: string): Promise<MountedImagePeer> {
  const { directory, mountPoint } = await mountPointIn();
  const mounted = await loopMount(image, { at: mountPoint, type: 'ext4', mountOptions: 'ro' });
  return {
    path: mountPoint,
    pid: 0,
    user: undefined,
    [Symbol.asyncDispose]: async () => {
      // The loop device is gone, with its cache, when the next one is measured.
      await mounted[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function fuse2fsMount(image: string): Promise<MountedImagePeer> {
  const { directory, mountPoint } = await mountPointIn();
  const log = openSync(path.join(directory.path, 'log'), 'w');
  const child = spawn('fuse2fs', ['-f', '-o', 'ro', image, mountPoint], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  killAtExit(child);
  child.on('error', () => {
    // The wait below says that nothing was mounted.
  });
  const dispose = async (): Promise<void> => {
    await detachMountsBelow(mountPoint);
    const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
    await waitFor(ended, { what: 'its end', timeoutMs: 10_000 }).catch(() => killGroup(child));
    await directory[Symbol.asyncDispose]();
  };
  try {
    await waitFor(async () => (await mountsBelow(mountPoint)).length > 0, {
      what: 'fuse2fs to mount (is the Debian package fuse2fs installed?)',
      timeoutMs: mountTimeoutMs,
      intervalMs: 5,
    });
  } catch (error) {
    await dispose();
    throw error;
  }
  return { path: mountPoint, pid: child.pid ?? 0, user: undefined, [Symbol.asyncDispose]: dispose };
}

const mebibyte = 1024 * 1024;
/** Names inside `BenchImages.filled`. */
export const imageContent = {
  /** 512 MiB of noise (quick: 128 MiB). */
  large: 'large.bin',
  /** 20,000 files of 8 KiB on average in 1,820 directories (quick: 4,000 in 380). */
  tree: 'tree',
} as const;
const filesPerDirectory = 11;

/** Images made once, by the kernel's own driver, and used by all scenarios. */
export class BenchImages implements AsyncDisposable {
  readonly #isQuick: boolean;
  #directory: Promise<TemporaryDirectory> | undefined;
  #filled: Promise<string> | undefined;
  #million: Promise<string> | undefined;

  constructor(isQuick: boolean) {
    this.#isQuick = isQuick;
  }

  /** 2 GiB with `imageContent`. */
  filled(): Promise<string> {
    const largeBytes = (this.#isQuick ? 128 : 512) * mebibyte;
    const files = this.#isQuick ? 4_000 : 20_000;
    this.#filled ??= this.#make('filled.img', 2048 * mebibyte, [], (root) => {
      writeFileSync(path.join(root, imageContent.large), noise('large', largeBytes));
      writeTree(path.join(root, imageContent.tree), files);
    });
    return this.#filled;
  }

  /** 1,000,000 inodes, all of them files and directories (quick: a hundredth of them). */
  million(): Promise<string> {
    const count = this.#isQuick ? 10_000 : 998_000;
    this.#million ??= this.#make(
      'million.img',
      8192 * mebibyte,
      ['-N', this.#isQuick ? '11000' : '1000000'],
      (root) => writeManyFiles(root, count, fewBytes),
    );
    return this.#million;
  }

  async #make(
    name: string,
    sizeBytes: number,
    options: readonly string[],
    fill: (root: string) => void,
  ): Promise<string> {
    this.#directory ??= temporaryDirectory('bench-images');
    const { path: directory } = await this.#directory;
    chmodSync(directory, 0o755);
    const image = path.join(directory, name);
    writeFileSync(image, '');
    truncateSync(image, sizeBytes);
    await runOk('mkfs.ext4', ['-q', '-F', ...options, image], { debianPackage: 'e2fsprogs' });
    await using mounted = await loopMount(image);
    fill(mounted.path);
    collectGarbage();
    return image;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#directory)?.[Symbol.asyncDispose]();
  }
}

function writeTree(root: string, files: number): void {
  const bytes = noise('small', 16 * 1024);
  for (let index = 0; index < files; index += 1) {
    const group = Math.floor(index / filesPerDirectory);
    const directory = path.join(root, `d${group % 20}`, `e${group}`);
    if (index % filesPerDirectory === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(path.join(directory, `file-${index}`), bytes.subarray(0, (index * 811) % 16_384));
  }
}
