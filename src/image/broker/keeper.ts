/**
 * Takes the mount away when the broker is killed: a shell that waits for the end of a pipe. It knows the mount point
 * and, once there is one, the mount's device, and nothing else; the broker ends it before it goes in order. It is
 * started before there is a mount: whoever waits for that would wait for it, too.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { escapeField } from '../../base/mount-info.ts';
import type { Connection } from '../../fuse/connection.ts';

/** What is on top of the mount point, by the lines of proc_pid_mountinfo(5), is taken away if it has our device. */
const script = `
read -r ours || exit 0
read -r _
top=
while read -r _ _ device _ point _; do
  [ "$point" = "$1" ] && top=$device
done </proc/self/mountinfo
[ "$top" = "$ours" ] || exit 0
shift
exec "$@"`;

export class MountKeeper implements Disposable {
  readonly #child: ChildProcess;

  constructor(mountPoint: string, isPrivileged: boolean) {
    const command = isPrivileged ? ['umount', '-l'] : ['fusermount3', '-u', '-z'];
    const words = [escapeField(mountPoint), ...command, '--', mountPoint];
    this.#child = spawn('sh', ['-c', script, 'ebb-image-keeper', ...words], {
      cwd: '/',
      // A signal to the broker's process group is none for this one.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#child.on('error', () => undefined);
    this.#child.stdin?.on('error', () => undefined);
    this.#child.unref();
  }

  /** From now on there is a mount to take away. */
  keep({ connectionNumber }: Connection): void {
    this.#child.stdin?.write(`0:${connectionNumber}\n`);
  }

  /** The mount is gone: nothing to keep. */
  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
