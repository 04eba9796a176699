/** How a process that was started ended: one form for all who say it. */
import type { ChildProcess } from 'node:child_process';

export interface ChildEnd {
  /** For people: `SIGKILL`, `exit code 3`, or why it could not be started. */
  readonly how: string;
  /** With exit code 0. */
  readonly inOrder: boolean;
}

/** To be asked in the turn in which it was started. Never rejects: what could not be started has ended, too. */
export function endOf(child: ChildProcess): Promise<ChildEnd> {
  return new Promise((resolve) => {
    child.once('error', ({ message }) => resolve({ how: message, inOrder: false }));
    child.once('exit', (code, signal) =>
      resolve({ how: signal ?? `exit code ${code}`, inOrder: code === 0 }),
    );
  });
}
