/**
 * Images whose journal was not replayed, made by the kernel: it works on a loop mount and is stopped by
 * EXT4_IOC_SHUTDOWN, as by a power cut. Needs root.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import path from 'node:path';
import { ioctlBytes } from '../../../src/sys/ioctl.ts';
import { loopMount } from '../../support/loop-mount.ts';
import { runOk } from '../../support/run.ts';
import { makeImage } from './images.ts';

/** _IOR('X', 125, __u32): include/uapi/linux/ext4.h. */
const shutdownIoctl = 0x8004587d;
export const Shutdown = { default: 0, flushLog: 1, noFlushLog: 2 } as const;
export type Shutdown = (typeof Shutdown)[keyof typeof Shutdown];

export interface DirtyOptions {
  readonly mkfs?: readonly string[];
  readonly mountOptions?: string;
  readonly how?: Shutdown;
  readonly sizeBytes?: number;
  /** A script for sh in the root of the file system. */
  readonly load: string;
}

let count = 0;

/** Makes a file system, runs the load on it, stops it in the middle of its life. The path of the image. */
export async function dirtyImage(directory: string, options: DirtyOptions): Promise<string> {
  count += 1;
  const name = `dirty-${count}`;
  const mkfs = options.mkfs ?? ['-t', 'ext4'];
  const image = await makeImage(directory, mkfs, options.sizeBytes ?? 24 * 1024 * 1024, name);
  const { mountOptions = 'noatime' } = options;
  await using mounted = await loopMount(image, { type: 'ext4', mountOptions });
  await runOk('sh', ['-e', '-c', options.load], { cwd: mounted.path, timeoutMs: 120_000 });
  shutdown(mounted.path, options.how ?? Shutdown.flushLog);
  // Unmounting would still write what has been committed to its place: the power is cut before.
  return await copyOf(image, 'cut');
}

export function shutdown(point: string, how: Shutdown): void {
  const descriptor = openSync(point, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const argument = new Uint8Array(4);
    new DataView(argument.buffer).setUint32(0, how, true);
    ioctlBytes(descriptor, shutdownIoctl, argument);
  } finally {
    closeSync(descriptor);
  }
}

/** Another file with the same bytes, sparse where the image is. */
export async function copyOf(image: string, suffix: string): Promise<string> {
  const copy = path.join(path.dirname(image), `${path.basename(image)}-${suffix}`);
  await copyFile(image, copy, constants.COPYFILE_FICLONE);
  return copy;
}
