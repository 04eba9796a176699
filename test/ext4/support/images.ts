/** Images made by mke2fs, and what e2fsprogs and the kernel say about them. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileDevice } from '../../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../../src/ext4/block-device.ts';
import { run, runOk, said } from '../../support/run.ts';
import { waitFor } from '../../support/wait-for.ts';

const debianPackage = 'e2fsprogs';

/** Makes a sparse file with a file system in it; `parameters` are those of mke2fs. */
export async function makeImage(
  directory: string,
  parameters: readonly string[],
  sizeBytes = 64 * 1024 * 1024,
  name = 'image',
): Promise<string> {
  const file = path.join(directory, name);
  await writeFile(file, '');
  await truncate(file, sizeBytes);
  await runOk('mke2fs', ['-q', '-F', ...parameters, file], { debianPackage, timeoutMs: 120_000 });
  return file;
}

/** Runs commands of debugfs in order; its output. debugfs itself reports few failures. */
export async function debugfs(image: string, commands: readonly string[]): Promise<string> {
  const result = await runOk('debugfs', ['-w', '-f', '-', image], {
    debianPackage,
    input: `${commands.join('\n')}\n`,
    timeoutMs: 120_000,
  });
  return `${result.stdout.toString()}${result.stderr.toString()}`;
}

/** Throws unless e2fsck finds nothing wrong: the image is what the test means it to be. */
export async function mustBeClean(image: string): Promise<void> {
  const result = await run('e2fsck', ['-fn', image], { debianPackage, timeoutMs: 120_000 });
  if (result.code !== 0) throw new Error(`e2fsck of ${image}: ${result.stdout.toString()}`);
}

/** The image as a device, until disposed of. */
export function openImage(file: string): BlockDevice & Disposable {
  const descriptor = openSync(file, 'r');
  const device = fileDevice(descriptor, fstatSync(descriptor).size);
  return Object.assign(device, { [Symbol.dispose]: () => closeSync(descriptor) });
}

/**
 * Mounts an image on a directory beside it, until disposed of. Needs root. mount(8) may lose the race
 * for a free loop device, or meet one that is being freed: it is tried again.
 */
export async function mountImage(
  image: string,
  options = 'noatime',
): Promise<{ readonly path: string } & AsyncDisposable> {
  const point = `${image}.mount`;
  await mkdir(point, { recursive: true });
  let complaint = '';
  const mount = async (): Promise<boolean> => {
    const result = await run('mount', ['-t', 'ext4', '-o', `loop,${options}`, image, point], {
      timeoutMs: 60_000,
    });
    complaint = result.stderr.toString();
    return result.code === 0;
  };
  await waitFor(mount, {
    what: 'the image to be mounted',
    timeoutMs: 20_000,
    intervalMs: 300,
  }).catch((error: unknown) => {
    throw new Error(complaint, { cause: error });
  });
  return {
    path: point,
    [Symbol.asyncDispose]: async () => {
      await runOk('umount', [point], { timeoutMs: 60_000 });
      // Somebody's copy of all mounts (unshare) may hold it a little longer: only then all is written.
      await waitFor(async () => (await said('losetup', '--associated', image)) === '', {
        what: 'the loop device of the image to be freed',
        timeoutMs: 60_000,
        intervalMs: 50,
      });
    },
  };
}
