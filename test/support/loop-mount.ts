/**
 * Images that the kernel mounts, through loop devices. Root.
 *
 * Somebody's copy of all mounts (unshare(2): every server of an image makes one) may keep a filesystem alive a moment
 * after it was unmounted here. Until it is gone not all need be written to the image, and mount(8), which takes the
 * loop device that the image still has, is EBUSY if it is to be mounted differently. So an unmounted image is one
 * whose loop device is free.
 */
import { spawnSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { run, said } from './run.ts';
import { waitFor } from './wait-for.ts';

export interface LoopMountOptions {
  /** Where; made if it is missing. Default: beside the image, `.mount` behind its name. */
  readonly at?: string;
  /** Default: mount(8) looks. */
  readonly type?: string;
  /** `-o` of mount(8), without `loop`. Default `noatime`. */
  readonly mountOptions?: string;
}

export interface LoopMount extends AsyncDisposable {
  readonly path: string;
}

const mountTimeoutMs = 60_000;

/** Mounts an image until disposed of; disposing ends when all is written and the loop device free. */
export async function loopMount(image: string, options: LoopMountOptions = {}): Promise<LoopMount> {
  const point = options.at ?? `${image}.mount`;
  await mkdir(point, { recursive: true });
  await loopDeviceFree(image);
  // mount(8) may lose the race for a free loop device.
  let complaint = '';
  const mount = async (): Promise<boolean> => {
    const result = await run('mount', mountArguments(image, point, options), {
      timeoutMs: mountTimeoutMs,
    });
    complaint = result.stderr.toString();
    return result.code === 0;
  };
  const waiting = { what: `mounting ${image}`, timeoutMs: 20_000, intervalMs: 300 };
  await waitFor(mount, waiting).catch((error: unknown) => {
    throw new Error(complaint, { cause: error });
  });
  return {
    path: point,
    [Symbol.asyncDispose]: async () => {
      const umount = await run('umount', [point], { timeoutMs: mountTimeoutMs });
      if (umount.code !== 0) {
        await run('umount', ['--lazy', point], { timeoutMs: mountTimeoutMs });
        throw new Error(umount.stderr.toString());
      }
      await loopDeviceFree(image);
    },
  };
}

async function loopDeviceFree(image: string): Promise<void> {
  await waitFor(async () => (await said('losetup', '--associated', image)) === '', {
    what: `the loop device of ${image} to be freed`,
    timeoutMs: 60_000,
    intervalMs: 50,
  });
}

function mountArguments(image: string, point: string, options: LoopMountOptions): string[] {
  const type = options.type === undefined ? [] : ['-t', options.type];
  return [...type, '-o', `loop,${options.mountOptions ?? 'noatime'}`, image, point];
}

const attempts = 20;
const pauseMs = 300;

/** Mounts an image that nobody has mounted before, at once. Who calls unmounts. */
export function loopMountSync(image: string, point: string, options: LoopMountOptions = {}): void {
  for (let attempt = 1; ; attempt += 1) {
    const { status, error, stderr } = spawnSync('mount', mountArguments(image, point, options), {
      encoding: 'utf8',
      timeout: mountTimeoutMs,
    });
    if (status === 0) return;
    if (attempt === attempts) throw new Error(`mount of ${image}: ${error?.message ?? stderr}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
  }
}
