/**
 * Starts a daemon, a supervisor or a broker, which waits for its options then. One that takes long to load can be
 * started ahead, before anybody has read the command line that its options are in
 * (docs/decisions/0037-what-a-mount-waits-for-starts-first.md): it waits for what this module loads, too.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, readdirSync, readFileSync } from '../base/node-fs.ts';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { endOf } from '../base/child-end.ts';
import { daemonEnvironment } from '../base/daemon-environment.ts';
import type { KeptDescriptor } from './kept-descriptors.ts';

export interface Program {
  /** Below src/: `supervisor/main.ts`. */
  readonly script: string;
  /** Environment variable that names another script, in tests. */
  readonly scriptVariable: string;
}

/** Of all of them. None may be one that V8 counts: docs/decisions/0049-switches-are-set-later.md. */
export const serviceFlags: readonly string[] = [
  // Node alone trusts its own list of authorities: those of the system are added.
  '--use-system-ca',
  // MiB. At V8's 16 each thread keeps tens of MiB of garbage: docs/decisions/0012-receive-buffers-and-memory.md.
  '--max-semi-space-size=2',
];

/** A process that waits for its options. */
export interface Launched {
  readonly options: Writable;
  readonly answers: Readable;
  /** Resolves with how it ended, for people. */
  readonly ended: () => Promise<string>;
  readonly kill: (signal: NodeJS.Signals) => void;
  /** Of this process's own. */
  readonly child?: ChildProcess;
}

/** Node keeps those before it from its children, and those behind up to the first number that is free. */
const foreignFirst = 16;
const closedOnExec = 0o2000000;

/** What the caller has open, as the lock of a script is, ends with the caller: a service lives on. */
function closeForeign(kept: readonly KeptDescriptor[]): void {
  for (const name of readdirSync('/proc/self/fd')) {
    const foreign = Number(name);
    if (foreign < foreignFirst || kept.some(({ fd }) => fd === foreign)) continue;
    try {
      // In octal (proc_pid_fdinfo(5)).
      const facts = readFileSync(`/proc/self/fdinfo/${foreign}`, 'latin1');
      const [, flags = '0'] = /^flags:\s+(\d+)$/m.exec(facts) ?? [];
      if ((Number.parseInt(flags, 8) & closedOnExec) === 0) closeSync(foreign);
    } catch {
      // It was that of the listing.
    }
  }
}

/** In a session of its own. `output`: its log. */
export function launch(
  script: string,
  output: number | 'inherit',
  kept: readonly KeptDescriptor[] = [],
): Launched {
  closeForeign(kept);
  const child = spawn(process.execPath, [...process.execArgv, ...serviceFlags, script], {
    cwd: '/',
    env: { ...daemonEnvironment, ...process.env, ...keptVariable(kept) },
    detached: true,
    stdio: ['pipe', output, output, 'pipe', ...kept.map(({ fd }) => fd)],
  });
  const ended = endOf(child).then(({ how }) => how);
  const options = child.stdin as Writable;
  options.on('error', () => {}); // it died first: its end says more
  return {
    options,
    answers: child.stdio[3] as Readable,
    ended: () => ended,
    kill: (signal) => void child.kill(signal),
    child,
  };
}

/** Absolute. */
export function scriptOf({ script, scriptVariable }: Program): string {
  return process.env[scriptVariable] ?? path.join(import.meta.dirname, '..', script);
}

/** The numbers that they get follow the order. */
function keptVariable(kept: readonly KeptDescriptor[]): Readonly<Record<string, string>> {
  return kept.length === 0 ? {} : { EBB_KEPT_DESCRIPTORS: kept.map(({ name }) => name).join(':') };
}
