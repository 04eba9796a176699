/** Reads files of a tree in a child process and compares them with their sources (test/probes/compare.py). */
import assert from 'node:assert/strict';
import path from 'node:path';
import { run } from './run.ts';

export interface Compared {
  readonly name: string;
  /** Bytes from the start that were the source's. */
  readonly right: number;
  /** What ended it; 0: the end of the file. */
  readonly errno: number;
  /** Offset of a piece that is not the source's, or -1. */
  readonly wrong: number;
}

export interface CompareOptions {
  /** At a time. Default 8. */
  readonly readers?: number;
  /** Of a pread(2). Default 64 KiB. */
  readonly pieceBytes?: number;
  /** Default 60,000. */
  readonly timeoutMs?: number;
}

const script = path.join(import.meta.dirname, '../probes/compare.py');

/** In the order of `names`. Throws when one of them never ended. */
export async function compareFiles(
  tree: string,
  source: string,
  names: readonly string[],
  { readers = 8, pieceBytes = 65_536, timeoutMs = 60_000 }: CompareOptions = {},
): Promise<Compared[]> {
  const words = [script, String(readers), String(pieceBytes), tree, source, ...names];
  const { code, stdout, stderr, timedOut } = await run('python3', words, { timeoutMs });
  assert.ok(!timedOut, `reading did not end in ${timeoutMs} ms: ${stdout.toString()}`);
  assert.equal(code, 0, stderr.toString());
  const lines = stdout.toString().trim().split('\n');
  return lines.map((line) => JSON.parse(line) as Compared);
}
