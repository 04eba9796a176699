/**
 * Fills a mounted file system with everything that the format has a special form for: names, sizes,
 * holes, attributes, owners, times. What the file system cannot hold is left out.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { toEbbError } from '../../../src/base/errors.ts';
import { fallocate, FallocateMode } from '../../../src/sys/fallocate.ts';
import { setXattr } from '../../../src/sys/xattr.ts';
import { patternBytes } from '../../support/pattern.ts';
import { runOk } from '../../support/run.ts';

export interface PopulateOptions {
  readonly blockSizeBytes: number;
  /** Entries of the directory `/flat`; 0 is no such directory. */
  readonly flatCount?: number;
  /** Pieces of sparse files are not written behind this. Default: no limit, which is 5 GiB. */
  readonly farthestBytes?: number;
}

/** Does what may not be possible here; whether it was. */
export function attempt(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    const { code } = toEbbError(error);
    if (['EOPNOTSUPP', 'ENOSPC', 'EFBIG', 'ENAMETOOLONG', 'E2BIG', 'ERANGE'].includes(code))
      return false;
    throw error;
  }
}

export async function populate(root: string, options: PopulateOptions): Promise<void> {
  makeNames(root, options);
  makeContents(path.join(root, 'contents'), options);
  makeAttributes(path.join(root, 'attributes'), options);
  await makeSpecials(path.join(root, 'specials'));
}

function makeNames(root: string, { flatCount = 0, blockSizeBytes }: PopulateOptions): void {
  const names = path.join(root, 'names');
  mkdirSync(names);
  const odd = [
    ' ',
    '...',
    '..a',
    'new\nline',
    'back\\slash',
    'ä€😀',
    'x'.repeat(255),
    Buffer.from([0xff, 0xfe, 0x80, 0x01]),
    Buffer.concat([Buffer.from('latin-'), Buffer.alloc(40, 0xe4)]),
  ];
  for (const [index, name] of odd.entries()) {
    const file = Buffer.concat([Buffer.from(`${names}/`), Buffer.from(name)]);
    writeFileSync(file, `content ${index}`);
  }
  for (let depth = 0, below = names; depth < 30; depth += 1) {
    below = path.join(below, `deep ${depth}`);
    mkdirSync(below);
  }
  for (const length of [1, 59, 60, 61, 200, Math.min(4000, blockSizeBytes - 1)]) {
    symlinkSync('t'.repeat(length), path.join(names, `symlink ${length}`));
  }
  writeFileSync(path.join(names, 'linked'), 'three names');
  for (const index of [1, 2])
    linkSync(path.join(names, 'linked'), path.join(names, `link ${index}`));
  const flat = path.join(root, 'flat');
  if (flatCount > 0) mkdirSync(flat);
  writeFileSync(path.join(names, 'origin'), '');
  for (let index = 0; index < flatCount; index += 1) {
    const name = Buffer.from(`${flat}/${'entry-ÿ'.repeat(1 + (index % 4))}${index}`);
    // Hard links need no inodes; a file has 65,000 names at most.
    if (index % 100 === 0) writeFileSync(name, '');
    else linkSync(path.join(names, 'origin'), name);
  }
}

function makeContents(directory: string, options: PopulateOptions): void {
  const { blockSizeBytes, farthestBytes = Infinity } = options;
  mkdirSync(directory);
  const at = (name: string): string => path.join(directory, name);
  const sizes = [
    0,
    1,
    59,
    60,
    61,
    100,
    150,
    700,
    blockSizeBytes - 1,
    blockSizeBytes,
    blockSizeBytes + 1,
  ];
  for (const size of [...sizes, 300_000]) {
    writeFileSync(at(`size ${size}`), patternBytes(size, size));
  }
  // Holes of all sizes: every level of pointers, extents in several nodes.
  const places = [0, 3, 12, 300, 5000, 70_000, 200_000].map((block) => block * blockSizeBytes);
  places.push(5 * 1024 ** 3);
  const isNear = (place: number): boolean => place <= farthestBytes;
  writePieces(at('sparse'), places.filter(isNear), 5000);
  const scattered = Array.from({ length: 1600 }, (_, index) => index * 2 * blockSizeBytes);
  writePieces(at('scattered'), scattered.filter(isNear), 700);
  writePieces(at('hole at the end'), [0], 100, 10_000_000);
  const unwritten = openSync(at('unwritten'), 'w');
  attempt(() => {
    fallocate(unwritten, 0, 0, 50 * blockSizeBytes);
    writeSync(unwritten, patternBytes(1, 3000), 0, 3000, 20 * blockSizeBytes + 17);
    fallocate(unwritten, FallocateMode.keepSize, 60 * blockSizeBytes, 100 * blockSizeBytes);
  });
  closeSync(unwritten);
  // Two files that grow by turns, so that their blocks alternate.
  const turns = ['turn a', 'turn b'].map((name) => openSync(at(name), 'w'));
  for (let round = 0; round < 12; round += 1) {
    for (const [index, file] of turns.entries()) {
      writeSync(file, patternBytes(round * 2 + index, 2 * blockSizeBytes));
      fsyncSync(file);
    }
  }
  turns.forEach((file) => closeSync(file));
}

function writePieces(file: string, offsets: number[], sizeBytes: number, endBytes = 0): void {
  const descriptor = openSync(file, 'w');
  for (const [index, offset] of offsets.entries()) {
    attempt(() => writeSync(descriptor, patternBytes(index, sizeBytes), 0, sizeBytes, offset));
  }
  if (endBytes > 0) attempt(() => writeSync(descriptor, 'end', endBytes));
  closeSync(descriptor);
}

/** An ACL as setxattr(2) takes it: version 2, entries of tag, permissions, id. */
export function acl(
  entries: readonly (readonly [tag: number, mode: number, id: number])[],
): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2);
  entries.forEach(([tag, mode, id], index) => {
    value.writeUInt16LE(tag, 4 + index * 8);
    value.writeUInt16LE(mode, 6 + index * 8);
    value.writeUInt32LE(id, 8 + index * 8);
  });
  return value;
}

const none = 0xffffffff;
export const someAcl = acl([
  [0x1, 6, none],
  [0x2, 4, 1000],
  [0x2, 5, 70_000],
  [0x4, 4, none],
  [0x8, 6, 12],
  [0x10, 6, none],
  [0x20, 0, none],
]);

function makeAttributes(directory: string, { blockSizeBytes }: PopulateOptions): void {
  mkdirSync(directory);
  const make = (name: string, values: Readonly<Record<string, Uint8Array>>): void => {
    const file = path.join(directory, name);
    writeFileSync(file, name);
    for (const [attribute, value] of Object.entries(values)) {
      attempt(() => setXattr(file, attribute, value));
    }
  };
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  make('one small', { 'user.a': Buffer.from('value') });
  make('empty', { 'user.empty': Buffer.alloc(0), 'trusted.empty': Buffer.alloc(0) });
  make('all kinds', {
    'user.name with space': Buffer.from([0, 1, 2, 255]),
    'trusted.t': Buffer.from('trusted'),
    'security.capability': capability,
    'security.other': Buffer.from('other'),
    'user.ä': Buffer.from('ü'),
  });
  const block = Object.fromEntries(
    Array.from({ length: 12 }, (_, index) => [
      `user.number ${index}`,
      patternBytes(index, index * 5),
    ]),
  );
  // The same attributes twice: the block is shared.
  make('many', block);
  make('many again', block);
  make('inode and block', {
    'user.small': Buffer.from('s'),
    'user.large': patternBytes(1, blockSizeBytes / 2),
  });
  make('as large as fits', { 'user.large': patternBytes(2, blockSizeBytes - 100) });
  make('larger than a block', {
    'user.20k': patternBytes(3, 20_000),
    'user.64k': patternBytes(4, 65_536),
    'user.small': Buffer.from('beside'),
  });
  make('the same large value', { 'user.20k': patternBytes(3, 20_000) });
  make('acl', { 'system.posix_acl_access': someAcl, 'user.beside': Buffer.from('acl') });
  const below = path.join(directory, 'acl directory');
  mkdirSync(below);
  attempt(() => setXattr(below, 'system.posix_acl_default', someAcl));
  attempt(() => setXattr(below, 'system.posix_acl_access', someAcl));
  writeFileSync(path.join(below, 'heir'), '');
  mkdirSync(path.join(below, 'heiress'));
  const symlink = path.join(directory, 'symlink');
  symlinkSync('target', symlink);
  attempt(() => setXattr(symlink, 'trusted.of.symlink', Buffer.from('t')));
  attempt(() => setXattr(symlink, 'trusted.large', patternBytes(5, blockSizeBytes / 2)));
  for (const [index, mode] of [0o7777, 0, 0o4755, 0o2070, 0o1777].entries()) {
    const file = path.join(directory, `mode ${index}`);
    writeFileSync(file, '');
    chownSync(file, 70_000 * index, 100_000 + index);
    chmodSync(file, mode);
  }
}

/** What Node has no calls for. */
const specialsScript = `
import os, stat, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
for number, (major, minor) in enumerate([(8, 1), (0, 1), (255, 255), (256, 0), (4095, 1048575), (1, 256)]):
    os.mknod(f'block {number}', stat.S_IFBLK | 0o640, os.makedev(major, minor))
    os.mknod(f'character {number}', stat.S_IFCHR | 0o666, os.makedev(major, minor))
os.mkfifo('fifo'); os.mknod('socket', stat.S_IFSOCK | 0o600)
times = [-2**31, -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 3 * 2**32 + 2**31 - 1]
for number, seconds in enumerate(times):
    open(f'time {number}', 'w').close()
    os.utime(f'time {number}', ns=(seconds * 10**9 + 123456789, seconds * 10**9 + 999999999 - number))
`;

async function makeSpecials(directory: string): Promise<void> {
  await runOk('python3', ['-c', specialsScript, directory], { debianPackage: 'python3' });
}
