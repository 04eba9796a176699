/** Small images in which every structure occurs, to be damaged. */
import { mkdir, open, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setXattr } from '../../../src/sys/xattr.ts';
import { patternBytes } from '../../support/pattern.ts';
import { run } from '../../support/run.ts';
import { debugfs, makeImage } from './images.ts';
import { someAcl } from './populate.ts';

export interface Subject {
  readonly name: string;
  readonly parameters: readonly string[];
  readonly debugfs?: readonly string[];
  /** What e2fsck would undo. */
  readonly debugfsAfter?: readonly string[];
  readonly sizeBytes?: number;
}

export const subjects: readonly Subject[] = [
  { name: 'ext2', parameters: ['-t', 'ext2', '-b', '1024'] },
  {
    name: 'ext3 without indexes',
    parameters: ['-t', 'ext3', '-b', '1024', '-O', '^dir_index'],
    sizeBytes: 4 << 20,
  },
  { name: 'ext4', parameters: ['-t', 'ext4', '-b', '1024'] },
  {
    name: 'ext4 without checksums',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,uninit_bg'],
  },
  {
    name: 'inline data, attributes in inodes',
    parameters: [
      '-t',
      'ext4',
      '-b',
      '1024',
      '-I',
      '256',
      '-O',
      'inline_data,ea_inode,^metadata_csum',
    ],
    // Larger than a block: an inode of its own has it.
    debugfs: [`ea_set "a/size 5" user.huge ${'v'.repeat(1500)}`],
  },
  {
    name: 'casefold, three levels',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'casefold,large_dir,^metadata_csum'],
    debugfs: ['sif flat flags 0x40000000'],
  },
  {
    name: 'encrypt, meta_bg, 4 KiB blocks',
    parameters: ['-t', 'ext4', '-b', '4096', '-O', 'encrypt,meta_bg,^resize_inode'],
    // Without a policy; the directory has its index.
    debugfsAfter: [
      'sif flat flags 0x81800',
      'sif "a/size 130" flags 0x80800',
      'sif a/b/long flags 0x80800',
    ],
    sizeBytes: 4 << 20,
  },
  {
    name: 'bigalloc',
    parameters: ['-t', 'ext4', '-b', '1024', '-O', 'bigalloc', '-C', '4096'],
    sizeBytes: 4 << 20,
  },
];

/** A small tree in which every structure occurs. */
export async function makeSmallTree(directory: string): Promise<string> {
  const source = path.join(directory, 'source');
  await mkdir(path.join(source, 'flat'), { recursive: true });
  await mkdir(path.join(source, 'a/b/c'), { recursive: true });
  for (let index = 0; index < 90; index += 1) {
    await writeFile(
      path.join(source, 'flat', `entry number ${index}${'-'.repeat(index % 60)}`),
      '',
    );
  }
  for (const size of [5, 70, 130, 5000]) {
    await writeFile(path.join(source, `a/size ${size}`), patternBytes(size, size));
  }
  await symlink('short', path.join(source, 'a/b/short'));
  await symlink('long/'.repeat(30), path.join(source, 'a/b/long'));
  await using scattered = await open(path.join(source, 'a/b/c/scattered'), 'w');
  for (let index = 0; index < 100; index += 1) {
    await scattered.write(
      patternBytes(index, 1024),
      0,
      1024,
      index * 9000 - ((index * 9000) % 4096),
    );
  }
  await truncate(path.join(source, 'a/size 5000'), 900_000);
  const attributed = path.join(source, 'a/size 70');
  setXattr(attributed, 'user.small', Buffer.from('small'));
  setXattr(attributed, 'user.larger', patternBytes(1, 300));
  setXattr(attributed, 'trusted.other', patternBytes(2, 100));
  setXattr(path.join(source, 'a/size 130'), 'system.posix_acl_access', someAcl);
  return source;
}

/** The image of a subject, of a tree, with what `directory` is for meanwhile. */
export async function makeSubject(
  directory: string,
  source: string,
  subject: Subject,
): Promise<Uint8Array> {
  const sizeBytes = subject.sizeBytes ?? 2 << 20;
  const image = await makeImage(
    directory,
    ['-N', '160', '-d', source, ...subject.parameters],
    sizeBytes,
    subject.name,
  );
  if (subject.debugfs !== undefined) await debugfs(image, subject.debugfs);
  // Gives large directories their indexes.
  await run('e2fsck', ['-fyD', image], { debianPackage: 'e2fsprogs' });
  if (subject.debugfsAfter !== undefined) await debugfs(image, subject.debugfsAfter);
  return new Uint8Array(await readFile(image));
}
