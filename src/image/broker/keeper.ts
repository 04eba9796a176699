/**
 * Takes the mount away when the broker is killed: a shell that waits for the end of a pipe. It knows the mount point
 * and the mount's device, and nothing else; the broker ends it before it goes in order.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { escapeField } from '../../base/mount-info.ts';
import type { Connection } from '../../fuse/connection.ts';

/** What is on top of the mount point, by the lines of proc_pid_mountinfo(5), is taken away if it has our device. */
const script = `
read -r _
top=
while read -r _ _ device _ point _; do
  [ "$point" = "$1" ] && top=$device
done </proc/self/mountinfo
[ "$top" = "$2" ] || exit 0
shift 2
exec "$@"`;

export class MountKeeper implements Disposable {
  readonly #child: ChildProcess;

  constructor({ mountPoint, isPrivileged, connectionNumber }: Connection) {
    const mount = [escapeField(mountPoint), `0:${connectionNumber}`];
    const command = isPrivileged ? ['umount', '-l'] : ['fusermount3', '-u', '-z'];
    const words = [...mount, ...command, '--', mountPoint];
    this.#child = spawn('sh', ['-c', script, 'ebb-image-keeper', ...words], {
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
