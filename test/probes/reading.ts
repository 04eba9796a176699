/** Tools that read, and every system call that reads (through probe.c). */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { chunkBytes, lines, mebibyte, writeFewFiles, writeMixedFiles } from '../support/corpus.ts';
import type { CorpusWriter } from '../support/corpus.ts';
import { assertReads, assertSameOutput, shellOk } from './probe.ts';
import type { Probe } from './probe.ts';

/** The methods of probe.c, each over a few cold files. */
const methods: readonly string[] = [
  'read',
  'readv',
  'shuffled',
  'shuffled-odd',
  'backwards',
  'backwards-large',
  'sendfile',
  'splice',
  'copy-file-range',
  'direct',
  'nowait',
  'mmap',
  'mmap-backwards',
  'mmap-private',
  'mmap-exec',
  'mmap-closed',
  'mmap-populate',
  'mmap-willneed',
  'mremap',
  'seek',
  'fiemap',
  'readahead',
  'handle',
  'reopen',
  'aio',
  'uring',
  'uring-async',
  'uring-fixed',
  'uring-polled',
  'threads',
];

/** Interfaces that may be refused as a whole (exit 77) where the filesystem does not offer them. */
const mayBeRefused = new Set(['fiemap', 'handle', 'copy-file-range']);

/** By a program that nobody knows. */
const asksForHoles = new Set(['seek', 'fiemap']);

function methodProbe(method: string): Probe {
  return {
    name: `call-${method}`,
    sees: mayBeRefused.has(method) ? 'none' : 'content',
    when: (traits) => traits.tellsHoles || !asksForHoles.has(method),
    prepare: (writer) => writeFewFiles(writer),
    run: (context) => assertReads(context, method),
  };
}

/** A probe whose script must say the same in the mount as in the source. */
function sameOutput(
  name: string,
  prepare: (writer: CorpusWriter) => void,
  ...scripts: readonly string[]
): Probe {
  return {
    name,
    sees: 'content',
    prepare: (writer) => prepare(writer),
    async run(context) {
      for (const script of scripts) await assertSameOutput(context, script);
    },
  };
}

/** The first one is larger than what is brought whole when it is opened. */
function writeTexts(writer: CorpusWriter): void {
  writer.text('lines.txt', lines('texts', 60_000));
  writer.text('a/b/more.txt', lines('more', 3000));
  writer.text('a/short.txt', 'a needle without an end of line');
  writer.bytes('a/noise.bin', chunkBytes + 3);
  writer.text('empty.txt', '');
}

function writeLarge(writer: CorpusWriter): void {
  writer.bytes('large.bin', 24 * mebibyte + 5);
}

const checksums: Probe = {
  name: 'checksums',
  sees: 'content',
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    for (const tool of ['md5sum', 'sha256sum']) {
      const sums = path.join(context.scratch, `${tool}.txt`);
      const made = await shellOk(context, context.source, `${tool} -- *`);
      writeFileSync(sums, made.stdout);
      await shellOk(context, context.mount, `${tool} --quiet --strict -c '${sums}'`);
    }
  },
};

/** A text file must stay text: a hole in front of it makes grep say "binary file matches". */
const grepText: Probe = {
  name: 'grep-text',
  sees: 'content',
  prepare: writeTexts,
  async run(context) {
    const found = await shellOk(context, context.mount, 'grep needle lines.txt');
    assert.doesNotMatch(found.stdout.toString(), /binary file/i);
    const expected = readFileSync(path.join(context.source, 'lines.txt'), 'utf8')
      .split('\n')
      .filter((line) => line.includes('needle'));
    assert.deepEqual(found.stdout.toString().trimEnd().split('\n'), expected);
  },
};

/** Reading programs, and one system call after the other. */
export const readingProbes: readonly Probe[] = [
  ...methods.map(methodProbe),
  checksums,
  grepText,
  sameOutput('grep-recursive', writeTexts, 'grep -rn needle . | LC_ALL=C sort'),
  sameOutput('grep-count', writeTexts, 'grep -c "" lines.txt a/b/more.txt'),
  sameOutput('tail-bytes', writeLarge, 'tail -c 100000 large.bin'),
  sameOutput('tail-lines', writeTexts, 'tail -n 7 lines.txt', 'tail -n +59990 lines.txt'),
  sameOutput('tail-last-byte', writeLarge, 'tail -c 1 large.bin'),
  sameOutput('head', writeLarge, 'head -c 70000 large.bin', 'head -c -25000000 large.bin'),
  sameOutput('dd-skip', writeLarge, 'dd if=large.bin bs=4097 skip=5000 count=9 status=none'),
  sameOutput('dd-backwards', writeLarge, ddBackwards()),
  sameOutput('wc', writeTexts, 'wc lines.txt a/b/more.txt a/noise.bin empty.txt'),
  sameOutput('large-whole', writeLarge, 'sha256sum large.bin'),
  sameOutput('cmp', writeFewFiles, 'for f in *; do cmp "$f" "$SOURCE/$f" || exit 1; done'),
  sameOutput('diff', writeFewFiles, 'diff -r . "$SOURCE"'),
  sameOutput('cksum-all', writeMixedFiles, 'cksum *'),
  sameOutput('two-readers', writeLarge, twoReaders()),
];

/** Blocks of 64 KiB from the end to the middle: what httpdirfs 1.2.5 got wrong. */
function ddBackwards(): string {
  return 'for i in $(seq 383 -16 200); do dd if=large.bin bs=65536 skip=$i count=1 status=none; done';
}

/** A sequential reader and one that jumps, in the same cold file at the same time. */
function twoReaders(): string {
  return `cksum large.bin & for i in 350 10 300 20 250 90; do
    dd if=large.bin bs=65536 skip=$i count=2 status=none | cksum; done > "$SCRATCH/jumps"; wait; cat "$SCRATCH/jumps"`;
}
