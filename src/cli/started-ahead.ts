/**
 * The broker that the shell has started ahead (setup/broker-ahead.sh): a child of this process that Node does not know
 * of. It waits for its options on a pipe.
 */
import { constants } from 'node:os';
import { chmodSync, createWriteStream, renameSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StatField, statFields } from '../base/process-stat.ts';
import { runDirectory } from '../base/run-directory.ts';
import type { Launched } from './launch-service.ts';

const variable = 'EBB_STARTED_AHEAD';
/** What the shell has left open. */
const optionsFd = 5;
const answersFd = 6;
const endPollMs = 5;

interface Ahead {
  readonly pid: number;
  readonly script: string;
  /** Not the mount's before there is one. */
  readonly log: string;
}

let ahead: Ahead | undefined;

/** Once, before anything is started that would inherit it. Nothing stays of it when this process ends before `take`. */
export function findStartedAhead(): void {
  const [, pid, script] = /^(\d+) (.+)$/s.exec(process.env[variable] ?? '') ?? [];
  delete process.env[variable];
  if (pid === undefined || script === undefined) return;
  // The shell's number is this process's: one has replaced the other.
  const log = path.join(runDirectory(), `starting-${process.pid}.log`);
  ahead = { pid: Number(pid), script, log };
  process.once('exit', () => {
    if (ahead === undefined) return;
    kill(ahead.pid, 'SIGKILL');
    rmSync(ahead.log, { force: true });
  });
}

/** If it is this one; its log is `log` from now on. Throws what rename(2) throws. */
export function takeStartedAhead(script: string, log: string): Launched | undefined {
  if (ahead?.script !== script) return undefined;
  const { pid } = ahead;
  chmodSync(ahead.log, 0o600);
  renameSync(ahead.log, log);
  ahead = undefined;
  const options = createWriteStream('', { fd: optionsFd });
  options.on('error', () => {}); // it died first: its end says more
  const answers = new Socket({ fd: answersFd, readable: true, writable: false });
  return {
    options,
    answers,
    kill: (signal) => kill(pid, signal),
    ended: () => endOf(pid),
  };
}

/** Nobody has waited for it: the number is its own, also when it has ended. */
function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Whoever has started us ignores SIGCHLD: then nothing stays of a child.
  }
}

/** For people. What is left of it tells, until this process ends. */
async function endOf(pid: number): Promise<string> {
  for (;;) {
    try {
      const fields = statFields(pid);
      if (fields[StatField.state] === 'Z') return howOf(Number(fields[StatField.exitCode]));
    } catch {
      return 'nobody knows how';
    }
    await sleep(endPollMs);
  }
}

/** As wait(2) gives it. */
function howOf(status: number): string {
  const signal = status & 0x7f;
  if (signal === 0) return `exit code ${status >> 8}`;
  return (
    Object.entries(constants.signals).find(([, each]) => each === signal)?.[0] ?? `signal ${signal}`
  );
}
