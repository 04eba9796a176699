/**
 * A directory tree that no listing parser likes: every byte that means something in URLs, HTML, shells or
 * Unicode, plus what real trees have (empty things, dotfiles, loops, many entries).
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface TemporaryTree extends Disposable {
  readonly path: string;
}

/** An empty directory under the system's temporary directory, readable for everybody. */
export function temporaryTree(): TemporaryTree {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-test-tree-'));
  chmodSync(directory, 0o755);
  return {
    path: directory,
    [Symbol.dispose](): void {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** File names that are valid UTF-8. */
export const hostileNames: readonly string[] = [
  'plain.txt',
  'a b.txt',
  ' leading',
  'trailing ',
  'two  spaces',
  'plus+plus',
  'percent%41.txt',
  'percent%2Fslash',
  '100%',
  'hash#tag',
  'question?mark',
  '?C=N;O=D',
  'semi;colon',
  'a:b',
  'http:evil',
  'amp&amp;amp',
  'amp&lt',
  'less<than>',
  "quote'single",
  'quote"double',
  'back\\slash',
  'tab\there',
  'new\nline',
  'escape\u001b[31m',
  'bell\u0007',
  'nfc-\u00e9',
  'nfd-e\u0301',
  'emoji-\u{1f600}',
  'rtl-\u202egnp.exe',
  'kanji-\u6f22\u5b57',
  '...',
  '..a',
  '-dash',
  '~tilde',
  '[brackets]',
  '{braces}',
  'star*',
  'pipe|',
  'caret^',
  'back`tick',
  'dollar$',
  'at@sign',
  'equals=sign',
  'comma,name',
  'Parent Directory',
  'x'.repeat(80) + '-long-name-cut-by-nginx.txt',
  'y'.repeat(255),
  '\u00fc'.repeat(60),
];

/** File names that are not valid UTF-8, as bytes. */
export const hostileRawNames: readonly Buffer[] = [
  Buffer.from([0x6c, 0x61, 0x74, 0x69, 0x6e, 0x2d, 0xe9]),
  Buffer.from([0x62, 0x61, 0x64, 0x2d, 0xff, 0xfe]),
  Buffer.from([0x63, 0x75, 0x74, 0x2d, 0xe2, 0x82]),
];

/** Fixed times make golden pages repeatable: 2021-03-04 05:06:07 UTC. */
export const treeMtimeSeconds = 1_614_834_367;

/**
 * Fills `root` with: `hostile/` (all names above), `empty/`, `zero` (empty file), `small` (5 bytes), `big.bin`
 * (3 MiB, every byte known: i*7 mod 251), `.hidden`, `.dotdir/inside`, `loop/again -> .`, `deep/a/b/c/leaf`.
 */
export function fillHostileTree(root: string, options: { raw?: boolean } = {}): void {
  const files: [string | Buffer, string | Uint8Array][] = [];
  for (const name of hostileNames) files.push([path.join(root, 'hostile', name), name]);
  for (const directory of [
    'hostile',
    'empty',
    '.dotdir',
    'loop',
    'deep/a/b/c',
    'hostile/sub dir',
  ]) {
    mkdirSync(path.join(root, directory), { recursive: true });
  }
  if (options.raw === true) {
    const prefix = Buffer.from(`${path.join(root, 'hostile')}/`);
    for (const name of hostileRawNames) files.push([Buffer.concat([prefix, name]), 'raw']);
  }
  files.push([path.join(root, 'zero'), ''], [path.join(root, 'small'), 'small']);
  files.push([path.join(root, '.hidden'), 'hidden'], [path.join(root, '.dotdir/inside'), 'in']);
  files.push([path.join(root, 'deep/a/b/c/leaf'), 'leaf']);
  files.push([path.join(root, 'big.bin'), knownBytes(0, 3 * 1024 * 1024)]);
  for (const [file, content] of files) {
    writeFileSync(file, content);
    utimesSync(file, treeMtimeSeconds, treeMtimeSeconds);
  }
  symlinkSync('.', path.join(root, 'loop', 'again'));
}

/** Bytes whose value follows from their offset, so that a misplaced range is noticed. */
export function knownBytes(offsetBytes: number, countBytes: number): Uint8Array {
  const bytes = new Uint8Array(countBytes);
  for (let index = 0; index < countBytes; index += 1) {
    const position = offsetBytes + index;
    bytes[index] = (position * 7 + Math.floor(position / 65_536) * 13) % 251;
  }
  return bytes;
}

/** `count` empty files named `entry-00000` and so on. */
export function fillManyEntries(directory: string, count: number): void {
  mkdirSync(directory, { recursive: true });
  for (let index = 0; index < count; index += 1) {
    writeFileSync(path.join(directory, `entry-${String(index).padStart(5, '0')}`), '');
  }
}
