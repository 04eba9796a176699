/** Images of ext4 in files. */
import { runOk } from './run.ts';

/** Makes the file, sparse, with an empty file system or (`-d DIRECTORY`) one that has something in it. */
export async function makeExt4Image(
  image: string,
  sizeMiB: number,
  mkfsArguments: readonly string[] = [],
): Promise<void> {
  const words = ['-q', '-F', ...mkfsArguments, image, `${sizeMiB}M`];
  await runOk('mkfs.ext4', words, { debianPackage: 'e2fsprogs' });
}
