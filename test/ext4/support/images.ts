/** Images made by mke2fs, and what e2fsprogs and the kernel say about them. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileDevice } from '../../../src/ext4/block-device.ts';
import type { BlockDevice } from '../../../src/ext4/block-device.ts';
import { run, runOk } from '../../support/run.ts';

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
