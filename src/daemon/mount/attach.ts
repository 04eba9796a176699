/** Attaching the FUSE connection to the mount point. */
import { statSync } from 'node:fs';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { mountSubtype } from '../../base/mount-info.ts';
import { mountPrivileged, mountUnprivileged } from '../../fuse/connection.ts';
import type { Connection } from '../../fuse/connection.ts';
import type { NegotiationOptions } from '../../fuse/negotiation.ts';
import type { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';
import { remoteIdentity } from '../options.ts';
import { requestBytesMax } from './serving.ts';

/** READs and kernel read-ahead: sequential readers come in steps of this. */
const kernelReadAheadBytes = 4 * 1024 * 1024;
/**
 * READs of read-ahead at a time. Who waits for the remote has one or two of them, and when there are no more, nobody is
 * served, not even from what is here. Long before that the kernel reads no further ahead than it must
 * (`congestionThreshold`), so that they do not hold much memory.
 */
const backgroundRequestsMax = 1_024;

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

/** `privileged`: by mount(2), else through fusermount3. Rejects as `mountPrivileged` and `mountUnprivileged` do. */
export async function mountIt(
  configuration: Configuration,
  privileged: boolean,
): Promise<Connection> {
  const options = {
    mountPoint: configuration.mountPoint,
    fsname: remoteIdentity(configuration.remote),
    subtype: mountSubtype,
    allowOther: configuration.allowOther ?? privileged,
    defaultPermissions: true,
    readOnly: true,
    noExec: configuration.noExec,
  };
  return privileged ? mountPrivileged(options) : await mountUnprivileged(options);
}

/** What is agreed on with the kernel. */
export function connectionOptions(passthrough: boolean): NegotiationOptions {
  return {
    passthrough,
    dataInvalidation: 'explicit',
    cacheSymlinks: true,
    exportSupport: true,
    maxWriteBytes: requestBytesMax,
    maxReadaheadBytes: kernelReadAheadBytes,
    maxBackground: backgroundRequestsMax,
  };
}

/** Never throws: without it large reads take more requests. */
export function tuneReadAhead(connection: Connection, logbook: Logbook): void {
  try {
    connection.setReadAhead(kernelReadAheadBytes);
  } catch (error) {
    logbook.log('warn', `the kernel's read-ahead stays small: ${toEbbError(error).message}`);
  }
}
