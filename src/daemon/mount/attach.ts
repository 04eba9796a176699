/** Attaching the FUSE connection to the mount point. */
import { statSync } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { mountPrivileged, mountUnprivileged } from '../../fuse/connection.ts';
import type { Connection } from '../../fuse/connection.ts';
import type { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';
import { remoteIdentity } from '../options.ts';

/** Mount points are checked before the kernel does, for the sentence. */
export function checkMountPoint(mountPoint: string): void {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(mountPoint).isDirectory();
  } catch (thrown) {
    const error = toEbbError(thrown);
    if (error.code === 'ENOTCONN') {
      const why = `${mountPoint} is a mount whose daemon is gone: run ebb umount ${mountPoint} first`;
      throw ebbError('EBUSY', why, { cause: thrown, retryable: false });
    }
    throw ebbError(error.code, `the mount point ${mountPoint} cannot be used: ${error.message}`);
  }
  if (!isDirectory) throw ebbError('ENOTDIR', `the mount point ${mountPoint} is not a directory`);
}

export async function mountIt(
  configuration: Configuration,
  privileged: boolean,
): Promise<Connection> {
  const options = {
    mountPoint: configuration.mountPoint,
    fsname: remoteIdentity(configuration.remote),
    subtype: 'ebb',
    allowOther: configuration.allowOther ?? privileged,
    defaultPermissions: true,
    readOnly: true,
    noExec: configuration.noExec,
  };
  return privileged ? mountPrivileged(options) : await mountUnprivileged(options);
}

export function tuneReadAhead(
  connection: Connection,
  readAheadBytes: number,
  logbook: Logbook,
): void {
  try {
    connection.setReadAhead(readAheadBytes);
  } catch (error) {
    logbook.log('warn', `the kernel's read-ahead stays small: ${toEbbError(error).message}`);
  }
}
