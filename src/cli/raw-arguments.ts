/**
 * The command line without loss. Node decodes arguments as UTF-8 and turns other bytes into U+FFFD; file names
 * may hold any bytes. When that happened, the bytes are read again from /proc (proc_pid_cmdline(5)).
 */
import { readFileSync } from 'node:fs';
import { decodeName } from '../base/name.ts';

/** The arguments after the script, in the lossless form of base/name.ts. `argv` is `process.argv`. */
export function rawArguments(argv: readonly string[]): string[] {
  const words = argv.slice(2);
  if (words.every((word) => !word.includes('\uFFFD'))) return words;
  try {
    return lastWords(readFileSync('/proc/self/cmdline'), words.length) ?? words;
  } catch {
    return words;
  }
}

/** The last `count` NUL-terminated words of a cmdline file; undefined if there are not so many. */
export function lastWords(cmdline: Uint8Array, count: number): string[] | undefined {
  const all = Buffer.from(cmdline).toString('latin1').split('\0');
  all.pop(); // after the last terminator
  if (all.length < count) return undefined;
  return all.slice(all.length - count).map((word) => decodeName(Buffer.from(word, 'latin1')));
}
