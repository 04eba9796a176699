/**
 * File systems as descriptors: fsopen(2), fsconfig(2), fsmount(2) (Linux 5.2). What comes out is a detached mount:
 * reachable through its descriptor alone, gone when that is closed and nobody has a file of it open.
 */
import { OwnedFd } from './fd.ts';
import { bind, cString, lazily, lastErrno, orThrow, systemError } from './ffi.ts';

const SYS_fsopen = 430;
const SYS_fsconfig = 431;
const SYS_fsmount = 432;

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
/** The context's own words about the last failure: "e ..." lines (kernel: fs_context logs). */
const logLineMaxBytes = 1024;

const native = lazily(() => ({
  open: bind<(number: number, type: Uint8Array, flags: number) => number>(
    'long syscall(long number, const void *type, long flags)',
  ),
  configure: bind<
    (
      number: number,
      context: number,
      command: number,
      key: Uint8Array | null,
      value: Uint8Array | null,
      auxiliary: number,
    ) => number
  >('long syscall(long number, long fd, long cmd, const void *key, const void *value, long aux)'),
  mount: bind<(number: number, context: number, flags: number, attributes: number) => number>(
    'long syscall(long number, long fd, long flags, long attrs)',
  ),
  read: bind<(fd: number, bytes: Uint8Array, size: number) => number>(
    'int64_t read(int fd, void *buf, size_t count)',
  ),
}));

export interface NewFilesystem {
  readonly type: string;
  /** Options; `true` is a flag. `source` is the device. */
  readonly options: Readonly<Record<string, string | true>>;
  /** `MountAttribute` bits. */
  readonly attributes: number;
}

/**
 * A new, detached mount; the descriptor is O_PATH and close-on-exec, `attachMount` puts it somewhere. Blocks while the
 * file system is read. Throws EPERM (CAP_SYS_ADMIN), ENODEV (unknown type), ENOTBLK, EINVAL, EUCLEAN, with what the
 * file system itself said about it.
 */
export function mountDetached({ type, options, attributes }: NewFilesystem): OwnedFd {
  const opened = native().open(SYS_fsopen, cString(type), FSOPEN_CLOEXEC);
  using context = new OwnedFd(orThrow(opened, 'fsopen', type));
  for (const [key, value] of Object.entries(options)) {
    const command = value === true ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    const text = value === true ? null : cString(value);
    configure(context.fd, command, key, text, `${type} option ${key}`);
  }
  configure(context.fd, FSCONFIG_CMD_CREATE, undefined, null, type);
  const mounted = native().mount(SYS_fsmount, context.fd, FSMOUNT_CLOEXEC, attributes);
  return new OwnedFd(orThrow(mounted, 'fsmount', type));
}

function configure(
  context: number,
  command: number,
  key: string | undefined,
  value: Uint8Array | null,
  subject: string,
): void {
  const name = key === undefined ? null : cString(key);
  if (native().configure(SYS_fsconfig, context, command, name, value, 0) >= 0) return;
  const errno = lastErrno();
  const line = new Uint8Array(logLineMaxBytes);
  const count = native().read(context, line, line.length);
  const said =
    count > 0 ? `${subject} (${Buffer.from(line.subarray(0, count)).toString().trim()})` : subject;
  throw systemError(errno, 'mount', said);
}
