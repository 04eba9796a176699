/** One daemon of a tree or mount: started with the supervisor's descriptors, spoken to, waited for. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { endOf } from '../base/child-end.ts';
import type { ChildEnd } from '../base/child-end.ts';
import { daemonEnvironment } from '../base/daemon-environment.ts';
import { toEbbError } from '../base/errors.ts';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface DaemonProgram {
  /** Below src/. */
  readonly script: string;
  /** Environment variable that names another script, in tests. */
  readonly scriptVariable: string;
  /** Its descriptors from 4 on; 3 is the channel. */
  readonly inherited: readonly number[];
}

export class DaemonProcess<ToDaemon extends object> {
  /** Resolves when no thread of it is left: nothing of it answers any more. */
  readonly ended: Promise<ChildEnd>;
  /** Undefined: it could not even be tried. */
  readonly #child: ChildProcess | undefined;

  private constructor(child: ChildProcess | Error) {
    if (child instanceof Error) {
      this.ended = Promise.resolve({ how: child.message, inOrder: false });
      return;
    }
    this.#child = child;
    this.ended = endOf(child);
  }

  /** `onMessage` knows what its daemon's script sends. Never throws: whatever keeps it from living ends it. */
  static start<ToDaemon extends object>(
    program: DaemonProgram,
    onMessage: (message: unknown) => void,
  ): DaemonProcess<ToDaemon> {
    const override = process.env[program.scriptVariable];
    const script = override ?? fileURLToPath(new URL(`../${program.script}`, import.meta.url));
    let child: ChildProcess;
    try {
      child = spawn(process.execPath, [...process.execArgv, script], {
        cwd: '/',
        env: { ...daemonEnvironment, ...process.env },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...program.inherited],
      });
    } catch (error) {
      // Some errors come as an event, others (ENOMEM) at once.
      return new DaemonProcess(toEbbError(error));
    }
    child.on('message', onMessage);
    expendable(child.pid);
    return new DaemonProcess(child);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Lost when it is dead: its end says so. */
  send(message: ToDaemon): void {
    if (this.#child?.connected === true) this.#child.send(message, () => undefined);
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }
}

/** When memory runs out the daemon goes before its supervisor (proc_pid_oom_score_adj(5)). */
function expendable(pid: number | undefined): void {
  try {
    if (pid !== undefined) writeFileSync(`/proc/${pid}/oom_score_adj`, '0');
  } catch {
    // It is dead already.
  }
}

/** The kernel kills this process last: without it, readers would be let through to stubs. */
export function indispensable(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '-1000');
  } catch {
    // Not permitted in some containers; then it is a process like others.
  }
}
