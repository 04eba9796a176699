/** The processes that /proc shows (proc(5)). All reads are asynchronous: see mount-holders.ts. */
import { readFile, readdir } from 'node:fs/promises';

/** Of all processes in this pid namespace. Throws EMFILE, ENFILE, ENOMEM. */
export async function processIds(): Promise<number[]> {
  const names = await readdir('/proc');
  return names.filter((name) => /^[0-9]+$/.test(name)).map(Number);
}

/** What ps(1) shows as COMM; `?` when the process is gone. */
export async function commandName(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?');
  return text.trimEnd();
}
