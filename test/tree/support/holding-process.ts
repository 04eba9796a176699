/**
 * Another process that uses a file: `open` holds a descriptor, `map` a mapping with the descriptor closed, `race`
 * opens and reads it again and again, checking each byte that the flag file says is here.
 *
 * holding-process.ts open|map|race FILE [FLAG]
 * Says "ready", then works until it is killed or its standard input ends; `race` says "wrong" at the first wrong byte
 * and at the end how often each outcome was.
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';

import koffi from 'koffi';

import { sourceByte } from './cache.ts';

const [, , action, file = '', flag = ''] = process.argv;

function map(): void {
  const libc = koffi.load(null);
  const mmap = libc.func(
    'void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)',
  ) as (...args: unknown[]) => unknown;
  const fd = openSync(file, 'r');
  const [PROT_READ, MAP_SHARED] = [1, 1];
  if (koffi.address(mmap(null, 4_096, PROT_READ, MAP_SHARED, fd, 0)) < 4_096n) {
    throw new Error('mmap failed');
  }
  closeSync(fd);
}

const clock = new Int32Array(new SharedArrayBuffer(4));

/** Reads as a reader behind the front end does: opens, asks whether the bytes are here, then (after a pause) reads. */
function readOnce(pauseMs: number): string {
  const fd = openSync(file, 'r');
  try {
    if (readFileSync(flag, 'latin1') !== 'here') return 'skipped';
    Atomics.wait(clock, 0, 0, pauseMs);
    const bytes = new Uint8Array(65_536);
    const count = readSync(fd, bytes, 0, bytes.length, 0);
    for (let index = 0; index < count; index += 1) {
      if (bytes[index] !== sourceByte(index)) return 'wrong';
    }
    return 'right';
  } finally {
    closeSync(fd);
  }
}

if (action === 'open') openSync(file, 'r');
if (action === 'map') map();
writeSync(1, 'ready\n');
if (action === 'race') {
  const counts: Record<string, number> = { right: 0, wrong: 0, skipped: 0 };
  let steps = 0;
  const step = (): void => {
    for (let times = 0; times < 5; times += 1) {
      // Who comes in between is not left to luck, either.
      const outcome = readOnce(times === 0 ? 2 : 0);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (outcome === 'wrong' && counts['wrong'] === 1) writeSync(1, 'wrong\n');
    }
    // In the longer pauses a release comes through; without them that is luck, which took minutes at times.
    steps += 1;
    setTimeout(step, steps % 8 === 0 ? 20 : 1);
  };
  process.stdin.on('end', () => {
    writeSync(1, `${JSON.stringify(counts)}\n`);
    process.exit(0);
  });
  step();
}
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
