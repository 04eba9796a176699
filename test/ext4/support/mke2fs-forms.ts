/** Forms of file systems, filled by mke2fs -d: also those that the kernel of the tests may not mount. */
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setXattr } from '../../../src/sys/xattr.ts';
import { patternBytes } from '../../support/pattern.ts';
import { debugfs, makeImage } from './images.ts';

/** Names in `/flat`. */
export const flatCount = 1500;

/** What goes into them: a directory below `directory`. */
export function makeSource(directory: string): string {
  const source = path.join(directory, 'source');
  mkdirSync(path.join(source, 'a/b'), { recursive: true });
  mkdirSync(path.join(source, 'flat'));
  writeFileSync(path.join(source, 'a/large'), patternBytes(1, 3_000_000));
  writeFileSync(path.join(source, 'a/b/small'), 'small');
  writeFileSync(path.join(source, 'a/b/120'), patternBytes(2, 120));
  setXattr(path.join(source, 'a/b/small'), 'user.small', Buffer.from('value'));
  setXattr(path.join(source, 'a/b/small'), 'user.large', patternBytes(3, 700));
  symlinkSync('../b/small', path.join(source, 'a/b/short'));
  symlinkSync('x/'.repeat(100), path.join(source, 'a/long'));
  for (let index = 0; index < flatCount; index += 1) {
    const name = path.join(source, 'flat', `Größe-${'Ab'.repeat(index % 30)}-${index}`);
    if (index === 0) writeFileSync(name, '');
    else linkSync(path.join(source, 'flat', 'Größe--0'), name);
  }
  return source;
}

export interface Form {
  readonly name: string;
  readonly parameters: readonly string[];
  readonly debugfs?: readonly string[];
  readonly sizeMiB?: number;
  readonly isUnchecked?: boolean;
}

export const forms: readonly Form[] = [
  { name: 'ext2', parameters: ['-t', 'ext2'] },
  { name: 'ext3', parameters: ['-t', 'ext3'] },
  { name: 'ext4', parameters: ['-t', 'ext4'] },
  { name: '8 KiB blocks', parameters: ['-t', 'ext4', '-b', '8192'] },
  { name: '32 KiB blocks, ext3', parameters: ['-t', 'ext3', '-b', '32768'], sizeMiB: 256 },
  { name: '64 KiB blocks', parameters: ['-t', 'ext4', '-b', '65536'], sizeMiB: 512 },
  {
    name: '64 KiB blocks without checksums',
    parameters: ['-t', 'ext4', '-b', '65536', '-O', '^metadata_csum'],
    sizeMiB: 512,
  },
  // Without e2fsck, which waits for another machine that might have it mounted.
  { name: 'mmp', parameters: ['-t', 'ext4', '-O', 'mmp'], isUnchecked: true },
  { name: 'casefold', parameters: ['-t', 'ext4', '-O', 'casefold', '-E', 'encoding=utf8'] },
  {
    name: 'casefold, with a directory that folds',
    parameters: ['-t', 'ext4', '-O', 'casefold', '-E', 'encoding=utf8'],
    debugfs: ['sif flat flags 0x40080000'],
  },
];

/** An image of that form, of a source, below `directory`. Its path. */
export async function formImage(
  directory: string,
  { parameters, sizeMiB = 64, debugfs: commands }: Form,
  source: string,
): Promise<string> {
  const image = await makeImage(directory, [...parameters, '-d', source], sizeMiB * 1024 * 1024);
  if (commands !== undefined) await debugfs(image, commands);
  return image;
}
