/** The processes that /proc shows (proc(5)). All reads are asynchronous: see mount-holders.ts. */
import { readFile, readdir } from 'node:fs/promises';
import { toEbbError } from './errors.ts';

/** Of all processes in this pid namespace. Throws EMFILE, ENFILE, ENOMEM. */
export async function processIds(): Promise<number[]> {
  const names = await readdir('/proc');
  return names.filter((name) => /^[0-9]+$/.test(name)).map(Number);
}

/**
 * The threads of a process. The first one may have ended before the others, and shows no files then; others may have
 * files of their own (unshare(2)). Empty when the process is gone. Throws as `processIds`.
 */
export async function threadIds(pid: number): Promise<number[]> {
  const names = await readdir(`/proc/${pid}/task`).catch(unlessShort);
  return (names ?? []).map(Number);
}

const shortages: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM']);

/** A process that has gone has nothing. That nothing of one could be read does not mean that it has gone: throws. */
export function unlessShort(error: unknown): undefined {
  const known = toEbbError(error);
  if (shortages.has(known.code)) throw known;
}

/** What ps(1) shows as COMM; `?` when the process is gone. */
export async function commandName(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?');
  return text.trimEnd();
}
