/**
 * Whole command lines for what the daemon names shortly. The daemon does not read them: /proc/PID/cmdline waits for a
 * lock that a process can hold while it waits for that very daemon (base/mount-holders.ts).
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeName } from '../base/name.ts';
import { commandName } from '../base/processes.ts';

const charactersMax = 200;
const patienceMs = 200;

/** `command`: the name that the daemon knows; it stays where the process is gone, another, or not readable. */
export async function commandLine(
  pid: number,
  command: string,
  read: (file: string) => Promise<Uint8Array> = readFile,
): Promise<string> {
  const line = lineOf(pid, command, read).catch(() => command);
  return await Promise.race([line, sleep(patienceMs, command)]);
}

async function lineOf(
  pid: number,
  command: string,
  read: (file: string) => Promise<Uint8Array>,
): Promise<string> {
  if ((await commandName(pid)) !== command) return command;
  const words = decodeName(await read(`/proc/${pid}/cmdline`)).split('\0');
  return (
    words
      .filter((word) => word !== '')
      .join(' ')
      .slice(0, charactersMax) || command
  );
}
