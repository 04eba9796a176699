/**
 * Takes the mount away when the broker is killed: a shell that waits for the end of a pipe. It knows the mount point
 * and nothing else; the broker ends it before it goes in order.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';

const script = 'read -r _; exec "$@"';

export class MountKeeper implements Disposable {
  readonly #child: ChildProcess;

  constructor(mountPoint: string, isPrivileged: boolean) {
    const command = isPrivileged ? ['umount', '-l'] : ['fusermount3', '-u', '-z'];
    this.#child = spawn('sh', ['-c', script, 'ebb-image-keeper', ...command, '--', mountPoint], {
      cwd: '/',
      // A signal to the broker's process group is none for this one.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#child.on('error', () => undefined);
    this.#child.unref();
  }

  /** The mount is gone: nothing to keep. */
  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
