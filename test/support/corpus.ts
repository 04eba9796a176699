/**
 * Directories full of files that tools stumble over, the same on every machine and in every run: sizes around the
 * chunk and the page, holes, empty files, long and hostile names, many small files, deep trees. Tests mount a copy
 * of such a directory and compare with the directory itself, never with remembered digests.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  ftruncateSync,
  mkdirSync,
  openSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import { hostileNames, hostileRawNames } from './hostile-tree.ts';

export const kibibyte = 1024;
export const mebibyte = 1024 * 1024;
/** The recall unit; sizes one below, at and above it are where off-by-one errors live. */
export const chunkBytes = 256 * kibibyte;

/** Modification time of the first file made; every further file is 61 s younger. 2020-09-13, not a whole second. */
const firstMtimeSeconds = 1_600_000_000.25;
const writeBlockBytes = 4 * mebibyte;

/** `countBytes` of noise that follow from `seed` alone (AES-CTR key stream). */
export function noise(seed: string, countBytes: number): Buffer {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(countBytes));
}

/** Lines of text with numbers, so that `tail` and `grep` have something to find. */
export function lines(seed: string, count: number): string {
  const words = ['ebb', 'flow', 'tide', 'needle', 'shore', 'größe', 'moon', 'salt'];
  const random = noise(seed, count * 4);
  const made: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const word = (at: number): string => words[(random[index * 4 + at] ?? 0) % words.length] ?? '';
    made.push(`line ${index} ${word(0)} ${word(1)} ${word(2)} ${random[index * 4 + 3] ?? 0}`);
  }
  return `${made.join('\n')}\n`;
}

/** Writes below one directory and gives every file its own, old, fractional modification time. */
export class CorpusWriter {
  readonly root: string;
  #files = 0;

  constructor(root: string) {
    this.root = root;
    mkdirSync(root, { recursive: true });
  }

  /** Absolute path; makes the directories above it. */
  at(name: string): string {
    const full = path.join(this.root, name);
    mkdirSync(path.dirname(full), { recursive: true });
    return full;
  }

  text(name: string, content: string): void {
    writeFileSync(this.at(name), content);
    this.age(name);
  }

  bytes(name: string, sizeBytes: number): void {
    this.sparse(name, sizeBytes, [[0, sizeBytes]]);
  }

  /** A file of `sizeBytes` that has data (noise) only in `extents` ([offset, length] in bytes); the rest are holes. */
  sparse(name: string, sizeBytes: number, extents: readonly (readonly [number, number])[]): void {
    const descriptor = openSync(this.at(name), 'w', 0o644);
    try {
      ftruncateSync(descriptor, sizeBytes);
      for (const [offset, length] of extents) {
        for (let done = 0; done < length; done += writeBlockBytes) {
          const block = noise(`${name}@${offset + done}`, Math.min(writeBlockBytes, length - done));
          writeSync(descriptor, block, 0, block.length, offset + done);
        }
      }
    } finally {
      closeSync(descriptor);
    }
    this.age(name);
  }

  /** Sets the modification time: different for every file. */
  age(name: string): void {
    const seconds = firstMtimeSeconds + this.#files * 61;
    this.#files += 1;
    utimesSync(path.join(this.root, name), seconds, seconds);
  }
}

/** Sizes around page and chunk, holes of every kind, text: what a copying tool must get right. About 9 MiB. */
export function writeMixedFiles(writer: CorpusWriter, prefix = ''): void {
  const name = (file: string): string => path.join(prefix, file);
  writer.text(name('text.txt'), lines(prefix, 4000));
  writer.text(name('empty'), '');
  const sizes = [1, 4095, 4096, 4097, chunkBytes - 1, chunkBytes, chunkBytes + 1, mebibyte];
  for (const size of sizes) writer.bytes(name(`noise-${size}.bin`), size);
  writer.bytes(name('noise-5m.bin'), 5 * mebibyte + 77);
  writeHoles(writer, prefix);
}

function writeHoles(writer: CorpusWriter, prefix: string): void {
  const name = (file: string): string => path.join(prefix, file);
  const size = 900 * kibibyte + 5;
  const piece = 128 * kibibyte;
  writer.sparse(name('hole-start.bin'), size, [[size - piece, piece]]);
  writer.sparse(name('hole-end.bin'), size, [[0, piece]]);
  writer.sparse(name('hole-all.bin'), size, []);
  const both = [
    [0, piece],
    [size - piece, piece],
  ] as const;
  writer.sparse(name('hole-middle.bin'), size, both);
}

/** A few files for one low-level reader: odd size over several chunks, a hole inside, tiny, empty. */
export function writeFewFiles(writer: CorpusWriter, prefix = ''): void {
  const name = (file: string): string => path.join(prefix, file);
  writer.bytes(name('odd.bin'), 5 * chunkBytes - 719);
  writer.sparse(name('hole.bin'), 600 * kibibyte + 1, [
    [0, 8 * kibibyte],
    [500 * kibibyte, 100 * kibibyte],
  ]);
  writer.bytes(name('page.bin'), 4097);
  writer.bytes(name('one.bin'), 1);
  writer.text(name('empty.bin'), '');
}

export interface NameOptions {
  /** Control characters and bytes that are not UTF-8: only where the remote is a directory. */
  readonly everyByte: boolean;
  readonly dotfiles: boolean;
}

/** Names that a web server's listing may show in a way that cannot be understood. */
export function hasControlCharacter(name: string): boolean {
  return Array.from(name).some((character) => character < ' ' || character === '\u007f');
}

/** One small file for every hostile name; content says which. */
export function writeHostileNames(
  writer: CorpusWriter,
  prefix: string,
  options: NameOptions,
): void {
  writer.at(path.join(prefix, 'x'));
  for (const name of [...hostileNames, ...(options.dotfiles ? ['.hidden', '.a'] : [])]) {
    if (!options.everyByte && hasControlCharacter(name)) continue;
    if (!options.dotfiles && name.startsWith('.')) continue;
    writer.text(path.join(prefix, name), `content of ${name}`);
  }
  if (!options.everyByte) return;
  const directory = Buffer.from(`${path.join(writer.root, prefix)}/`);
  for (const name of hostileRawNames) writeFileSync(Buffer.concat([directory, name]), name);
}

/** 300 small files in 20 directories, three levels. */
export function writeManySmall(writer: CorpusWriter, prefix = 'many'): void {
  for (let index = 0; index < 300; index += 1) {
    const directory = index % 20;
    const where = path.join(prefix, `d${directory % 4}`, `e${directory % 5}`, `f${directory}`);
    writer.bytes(path.join(where, `small-${index}`), (index * 97) % 5000);
  }
}

/** A chain of 40 directories with one file at its end. */
export function writeDeep(writer: CorpusWriter, prefix = 'deep'): string {
  const levels = Array.from({ length: 40 }, (_unused, level) => `level-${level}`);
  const leaf = path.join(prefix, ...levels, 'leaf.txt');
  writer.text(leaf, 'at the bottom\n');
  return leaf;
}

/** The whole general corpus (about 60 MiB), for tests that read a tree rather than probe an interface. */
export function buildCorpus(root: string, options: Partial<NameOptions> = {}): CorpusWriter {
  const writer = new CorpusWriter(root);
  writeMixedFiles(writer, 'mixed');
  writer.bytes('large/forty.bin', 40 * mebibyte);
  writer.text('lines.txt', lines('lines', 20_000));
  const { everyByte = false, dotfiles = false } = options;
  writeHostileNames(writer, 'names', { everyByte, dotfiles });
  writeManySmall(writer);
  writeDeep(writer);
  return writer;
}

/** SHA-256 of one file, streamed. */
export async function fileDigest(file: string | Buffer): Promise<string> {
  const hash = createHash('sha256');
  const stream = createReadStream(file);
  stream.on('data', (bytes) => hash.update(bytes));
  await once(stream, 'end');
  return hash.digest('hex');
}

/**
 * What a directory holds: relative name (latin1 of its raw bytes) to kind, size and content digest. Only for
 * directories on native filesystems: through a mount that may hang, a child process must do the reading.
 */
export async function referenceDigest(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  await collect(Buffer.from(root), Buffer.alloc(0), found);
  return found;
}

const slash = Buffer.from('/');

async function collect(root: Buffer, relative: Buffer, found: Map<string, string>): Promise<void> {
  const directory = Buffer.concat([root, slash, relative]);
  for (const name of await readdir(directory, { encoding: 'buffer' })) {
    const below = relative.length === 0 ? name : Buffer.concat([relative, slash, name]);
    const full = Buffer.concat([root, slash, below]);
    const facts = await lstat(full);
    const key = below.toString('latin1');
    if (facts.isDirectory()) {
      found.set(key, 'directory');
      await collect(root, below, found);
    } else if (facts.isSymbolicLink()) {
      found.set(key, `link ${(await readlink(full, { encoding: 'buffer' })).toString('latin1')}`);
    } else {
      found.set(key, `file ${facts.size} ${await fileDigest(full)}`);
    }
  }
}

/** Makes sources, each in a directory of its own below `parent()`. */
export function freshSources(parent: () => string): () => CorpusWriter {
  let made = 0;
  return () => {
    made += 1;
    return new CorpusWriter(path.join(parent(), `source-${made}`));
  };
}
