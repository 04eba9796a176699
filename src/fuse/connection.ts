/**
 * Mounting: opens /dev/fuse and attaches it to a directory, by mount(2) with privileges or by
 * fusermount3 without; and what can be done to a mount from outside: unmount, abort, read-ahead.
 *
 * Nothing here looks at the mount itself (stat, realpath, ...): a process that asks its own mount
 * waits for itself. Facts come from /proc/self/fdinfo, /proc/self/mountinfo and /sys/fs/fuse (fuse
 * kernel documentation).
 */
import { readFileSync, realpathSync, writeFileSync } from '../base/node-fs.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { coveredError, mountAt, readMountInfo } from '../base/mount-info.ts';
import { OpenFlag, openFd, OwnedFd, setNonblocking } from '../sys/fd.ts';
import { mount, MountFlag, unmountAsync, UnmountFlag } from '../sys/mount.ts';
import { fusermountAttach, fusermountDetach } from './fusermount.ts';

export interface MountOptions {
  /** An existing directory (or file, with `rootMode`). */
  readonly mountPoint: string;
  /** The source column of /proc/self/mountinfo. Default `fuse`. */
  readonly fsname?: string;
  /** The type is shown as `fuse.SUBTYPE`. Letters, digits, `-`, `_`. */
  readonly subtype?: string;
  /**
   * Other users may enter, too. Unprivileged only with user_allow_other in /etc/fuse.conf. Default
   * false.
   */
  readonly allowOther?: boolean;
  /** The kernel checks mode and owner itself and never asks ACCESS. Default false. */
  readonly defaultPermissions?: boolean;
  readonly readOnly?: boolean;
  /** Default true; always true without privileges. */
  readonly noSuid?: boolean;
  /** Default true; always true without privileges. */
  readonly noDev?: boolean;
  readonly noExec?: boolean;
  /** Upper bound of READ requests; default: what INIT agrees on. */
  readonly maxReadBytes?: number;
  /** Type bits of the root, S_IFDIR (0o040000) by default. */
  readonly rootMode?: number;
}

export interface UnmountOptions {
  /**
   * Detach at once, even when busy; it ends when the last user is gone (MNT_DETACH). Default false.
   */
  readonly lazy?: boolean;
}

const deviceFile = '/dev/fuse';
const directoryMode = 0o040000;

/**
 * An open /dev/fuse that is mounted somewhere. Disposing closes the descriptor, which ends the
 * mount.
 */
export class Connection implements Disposable {
  readonly mountPoint: string;
  readonly isPrivileged: boolean;
  /** The directory in /sys/fs/fuse/connections, and the minor number of the mount's device 0:N. */
  readonly connectionNumber: number;
  readonly #device: OwnedFd;

  /**
   * Takes over a mounted descriptor, e.g. from a former server; throws ENOTCONN when it is mounted
   * nowhere.
   */
  constructor(device: OwnedFd, mountPoint: string, isPrivileged: boolean) {
    this.#device = device;
    this.mountPoint = mountPoint;
    this.isPrivileged = isPrivileged;
    try {
      this.connectionNumber = connectionNumberOf(device.fd, mountPoint);
      setNonblocking(device.fd, true);
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** Non-blocking, close-on-exec. EBADF after `close`. */
  get fileDescriptor(): number {
    return this.#device.fd;
  }

  get isOpen(): boolean {
    return this.#device.isOpen;
  }

  /**
   * Closes the descriptor. While no other process holds it, the connection ends: ENOTCONN for
   * everybody.
   */
  close(): void {
    this.#device.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Whether something else is mounted over this mount: no path leads to it then, and unmounting its mount point would
   * take that away.
   */
  get isCovered(): boolean {
    const device = `0:${this.connectionNumber}`;
    const mounts = readMountInfo();
    const isThere = mounts.some(
      (mount) => mount.mountPoint === this.mountPoint && mount.device === device,
    );
    return isThere && mountAt(mounts, this.mountPoint)?.device !== device;
  }

  /** See `unmount`; EBUSY also while it `isCovered`, lazily or not. */
  async unmount(options: UnmountOptions = {}): Promise<void> {
    if (this.isCovered) throw coveredError(this.mountPoint);
    await unmount(this.mountPoint, this.isPrivileged, options);
  }

  /**
   * Cuts the connection, see `abortConnection`; with privileges also where fusectl is not mounted,
   * by a forced unmount (which takes the mount away if nobody uses it).
   */
  async abort(): Promise<void> {
    try {
      abortConnection(this.connectionNumber);
    } catch (error) {
      if (!this.isPrivileged) throw error;
      await this.#forceUnmount();
    }
  }

  /** umount2(MNT_FORCE) aborts first and then finds the mount busy or not (fuse_umount_begin). */
  async #forceUnmount(): Promise<void> {
    try {
      await unmountAsync(this.mountPoint, UnmountFlag.nofollow | UnmountFlag.force);
    } catch (error) {
      if (toEbbError(error).code !== 'EBUSY') throw error;
    }
  }

  /** See `setReadAhead`. */
  setReadAhead(readAheadBytes: number): void {
    setReadAhead(this.connectionNumber, readAheadBytes);
  }
}

/**
 * mount(2). Needs CAP_SYS_ADMIN. Returns before INIT: serve the descriptor at once, the first user
 * waits for it. Throws EPERM, EACCES or ENOENT (/dev/fuse), ENOENT, ENOTDIR, EBUSY, EINVAL.
 */
export function mountPrivileged(options: MountOptions): Connection {
  return mountOpenDevice(openDevice(), options);
}

/** An open /dev/fuse, mounted nowhere: for a server that is started before there is a mount. */
export function openDevice(): OwnedFd {
  return openFd(deviceFile, OpenFlag.rdwr | OpenFlag.nonblock);
}

/** As `mountPrivileged`, with a descriptor of `openDevice`, which is taken over (and closed when it throws). */
export function mountOpenDevice(device: OwnedFd, options: MountOptions): Connection {
  using opened = device;
  checkSubtype(options.subtype);
  const mountPoint = realPath(options.mountPoint);
  const data = [
    `fd=${opened.fd}`,
    `rootmode=${(options.rootMode ?? directoryMode).toString(8)}`,
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
  ];
  if (options.allowOther === true) data.push('allow_other');
  if (options.defaultPermissions === true) data.push('default_permissions');
  if (options.maxReadBytes !== undefined) data.push(`max_read=${options.maxReadBytes}`);
  mount({
    source: options.fsname ?? 'fuse',
    target: mountPoint,
    type: options.subtype === undefined ? 'fuse' : `fuse.${options.subtype}`,
    flags: mountFlags(options),
    data: data.join(','),
  });
  return new Connection(new OwnedFd(opened.release()), mountPoint, true);
}

/**
 * fusermount3(1) of the package fuse3: for users without privileges, who must own the mount point.
 * Its error text becomes the message of the EbbError. No passthrough on such mounts.
 */
export async function mountUnprivileged(options: MountOptions): Promise<Connection> {
  checkSubtype(options.subtype);
  const mountPoint = realPath(options.mountPoint);
  const flags = [options.readOnly === true ? 'ro' : 'rw', 'nosuid', 'nodev'];
  if (options.noExec === true) flags.push('noexec');
  if (options.fsname !== undefined) flags.push(`fsname=${escapeOption(options.fsname)}`);
  if (options.subtype !== undefined) flags.push(`subtype=${options.subtype}`);
  if (options.allowOther === true) flags.push('allow_other');
  if (options.defaultPermissions === true) flags.push('default_permissions');
  if (options.maxReadBytes !== undefined) flags.push(`max_read=${options.maxReadBytes}`);
  const device = await fusermountAttach(mountPoint, flags);
  return new Connection(device, mountPoint, false);
}

/**
 * Ends a mount. Without `lazy` EBUSY while somebody uses it. EINVAL when nothing is mounted there.
 * Does not block this thread: unmounting may wait for answers of the server.
 */
export async function unmount(
  mountPoint: string,
  isPrivileged: boolean,
  options: UnmountOptions = {},
): Promise<void> {
  const lazy = options.lazy ?? false;
  if (isPrivileged) {
    await unmountAsync(mountPoint, UnmountFlag.nofollow | (lazy ? UnmountFlag.detach : 0));
  } else {
    await fusermountDetach(mountPoint, lazy);
  }
}

/**
 * Cuts the connection: every waiting request fails with ECONNABORTED, the server's loop ends, users
 * get ENOTCONN; the mount point stays until unmounted. Frees processes that hang on the mount.
 * Throws ENOENT when the connection is gone or /sys/fs/fuse/connections is not mounted.
 */
export function abortConnection(connectionNumber: number): void {
  const control = '/sys/fs/fuse/connections';
  try {
    writeFileSync(`${control}/${connectionNumber}/abort`, '1');
  } catch (cause) {
    const { code } = toEbbError(cause, 'EIO');
    const hint = `Is the connection over, or fusectl not mounted on ${control}?`;
    throw ebbError(code, `FUSE connection ${connectionNumber} cannot be aborted. ${hint}`, {
      cause,
    });
  }
}

/**
 * How far the kernel reads ahead of a sequential reader, and with it the size of its READs: 128 KiB
 * by default, at most max_write. Multiples of 4096. Needs root; throws EACCES otherwise.
 */
export function setReadAhead(connectionNumber: number, readAheadBytes: number): void {
  const file = `/sys/class/bdi/0:${connectionNumber}/read_ahead_kb`;
  try {
    writeFileSync(file, String(Math.floor(readAheadBytes / 1024)));
  } catch (error) {
    throw toEbbError(error, 'EIO');
  }
}

/**
 * A mount point as the kernel lists it. Before mounting only: afterwards the last component is ours. Throws ENOENT,
 * EACCES, ...
 */
export function realPath(directory: string): string {
  try {
    return realpathSync(directory);
  } catch (error) {
    throw toEbbError(error, 'EIO');
  }
}

function mountFlags(options: MountOptions): number {
  let flags = 0;
  if (options.readOnly === true) flags |= MountFlag.rdonly;
  if (options.noSuid !== false) flags |= MountFlag.nosuid;
  if (options.noDev !== false) flags |= MountFlag.nodev;
  if (options.noExec === true) flags |= MountFlag.noexec;
  return flags;
}

function checkSubtype(subtype: string | undefined): void {
  if (subtype !== undefined && !/^[\w-]+$/.test(subtype)) {
    throw ebbError(
      'EINVAL',
      `"${subtype}" cannot be a mount subtype: letters, digits, - and _ only.`,
    );
  }
}

/** fusermount3 splits its options at commas that have no backslash before them. */
function escapeOption(value: string): string {
  return value.replace(/[\\,]/g, (character) => `\\${character}`);
}

/** Linux 6.12 and later show it in fdinfo; before, the mount table knows. */
function connectionNumberOf(fileDescriptor: number, mountPoint: string): number {
  const shown = readFileSync(`/proc/self/fdinfo/${fileDescriptor}`, 'utf8');
  const [, number] = /^fuse_connection:\s*(\d+)$/m.exec(shown) ?? [];
  if (number !== undefined) return Number(number);
  const [, minor] = /^0:(\d+)$/.exec(mountAt(readMountInfo(), mountPoint)?.device ?? '') ?? [];
  if (minor === undefined) throw ebbError('ENOTCONN', `Nothing is mounted on ${mountPoint}.`);
  return Number(minor);
}
