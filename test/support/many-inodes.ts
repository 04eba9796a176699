/** Images of very many inodes, filled by the kernel's own driver. */
import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { loopMount } from './loop-mount.ts';
import { runOk } from './run.ts';

const filesPerDirectory = 1000;
const patient = { timeoutMs: 3_600_000 };

/** mknod(2) is the cheapest way to an inode. One file of a hundred has content, its own name. */
const fill = `
import os, sys
root, inodes, per = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = 0
directory = 0
while made < inodes:
    name = os.path.join(root, 'part-%d' % (directory // 100), 'directory-%d' % directory)
    os.makedirs(name)
    os.chdir(name)
    made += 1 if directory % 100 else 2
    count = min(per, inodes - made)
    for index in range(count):
        file = 'file number %d' % index
        os.mknod(file, 0o100600 | index % 64)
        if index % 100 == 0:
            with open(file, 'w') as content: content.write(name + '/' + file)
    made += max(0, count)
    directory += 1
`;

/**
 * An ext4 image named `many.img` in which `inodes` inodes (give or take a directory) are in use, unmounted: files in
 * directories of 1,000 (`/part-P/directory-D/file number N`), nearly all of them empty. Needs root; 1,000,000 take
 * about half a minute of processor time and 350 MB of room.
 */
export async function imageOfInodes(directory: string, inodes: number): Promise<string> {
  const image = path.join(directory, 'many.img');
  await writeFile(image, '');
  await truncate(image, 64 * 1024 * 1024 + inodes * 2048);
  const some = Math.ceil(inodes * 1.02) + 1000;
  await runOk(
    'mke2fs',
    ['-q', '-F', '-t', 'ext4', '-b', '4096', '-N', `${some}`, '-m', '0', image],
    {
      debianPackage: 'e2fsprogs',
      ...patient,
    },
  );
  await using mounted = await loopMount(image, { mountOptions: 'noatime,nobarrier' });
  const words = ['-c', fill, mounted.path, `${inodes}`, `${filesPerDirectory}`];
  await runOk('python3', words, patient);
  return image;
}
