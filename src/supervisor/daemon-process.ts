/** One daemon of a tree: started with the guard's descriptors, spoken to, waited for. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Guard } from './guard.ts';
import type { ToDaemon, ToSupervisor } from './messages.ts';

/** Read once, before the daemon's first line runs: as the daemon of a mount has it (src/cli/mount/start.ts). */
const daemonEnvironment = {
  UV_THREADPOOL_SIZE: '16',
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
};

/** The daemon's script; `EBB_NATIVE_MAIN` replaces it in tests. */
function daemonMain(): string {
  const override = process.env['EBB_NATIVE_MAIN'];
  return override ?? fileURLToPath(new URL('../daemon/native-main.ts', import.meta.url));
}

export class DaemonProcess {
  /** How it ended, for people. Resolves when no thread of it is left: nothing of it answers any more. */
  readonly ended: Promise<{ readonly how: string; readonly inOrder: boolean }>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => resolve({ how: error.message, inOrder: false }));
      child.once('exit', (code, signal) =>
        resolve({ how: signal ?? `exit code ${code}`, inOrder: code === 0 }),
      );
    });
  }

  static start(guard: Guard, onMessage: (message: ToSupervisor) => void): DaemonProcess {
    // The order of src/supervisor/messages.ts `Inherited`.
    const inherited = [
      guard.access.fd,
      guard.open.fd,
      guard.changes.fd,
      guard.privateMount.fd,
      guard.lock.fd,
    ];
    const child = spawn(process.execPath, [...process.execArgv, daemonMain()], {
      cwd: '/',
      env: { ...daemonEnvironment, ...process.env },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...inherited],
    });
    child.on('message', (message) => onMessage(message as ToSupervisor));
    expendable(child.pid);
    return new DaemonProcess(child);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Lost when it is dead: its end says so. */
  send(message: ToDaemon): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
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
