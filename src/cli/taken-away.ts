/** Trees that were taken away (ebb umount -l) while somebody had files of them open: supervisors stay until then. */
import path from 'node:path';
import { isTreeMount, readMountInfo } from '../base/mount-info.ts';
import { runFiles } from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';

/** Nobody will serve it before it is attached again. For records whose daemon does not answer. */
export function isTakenAway({ kind, mountPoint }: RunRecord): boolean {
  if (kind !== 'tree') return false;
  return !readMountInfo().some((mount) => mount.mountPoint === mountPoint && isTreeMount(mount));
}

export function takenAwaySentence({ mountPoint, socketPath }: RunRecord): string {
  return (
    `${mountPoint} was taken away, and cannot be attached again before nobody has files of it open; ` +
    `who has is in ${runFiles(mountPoint, path.dirname(socketPath)).log}`
  );
}
