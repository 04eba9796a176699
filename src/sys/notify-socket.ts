/**
 * Datagrams to a service manager (sd_notify(3)): `NOTIFY_SOCKET` is the path of a unix socket, or with `@` a name in
 * the abstract namespace; descriptors go along as SCM_RIGHTS (unix(7)). Structures of 64-bit Linux.
 */
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { encodeName } from '../base/name.ts';
import { OwnedFd } from './fd.ts';
import { addressOf, bind, lastErrno, lazily, orThrow, systemError } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sun_path holds 108 bytes with the closing zero. */
const pathMaxBytes = 107;
const addressHeaderBytes = 2;
/** struct cmsghdr. */
const controlHeaderBytes = 16;
const descriptorBytes = 4;

const native = lazily(() => ({
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  sendmsg: bind<(fd: number, message: Uint8Array, flags: number) => number>(
    'int64_t sendmsg(int fd, const void *msg, int flags)',
  ),
}));

/**
 * Sends `text`, and a second descriptor of the open file `fd`. Never waits: false when the manager's queue is full.
 * Throws EINVAL for an address that is none, and what the kernel says of it (ECONNREFUSED, ENOENT: nobody listens).
 */
export function notify(address: string, text: string, fd?: number): boolean {
  using socket = new OwnedFd(
    orThrow(native().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket'),
  );
  const name = encodeAddress(address);
  const payload = Buffer.from(text);
  const vector = pointers([addressOf(payload), BigInt(payload.length)]);
  const control = fd === undefined ? undefined : rightsOf(fd);
  // struct msghdr: name, its length, vector, how many, control, its length, flags.
  const message = pointers([
    addressOf(name),
    BigInt(name.length),
    addressOf(vector),
    1n,
    control === undefined ? 0n : addressOf(control),
    BigInt(control?.length ?? 0),
    0n,
  ]);
  if (native().sendmsg(socket.fd, message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
  const errno = lastErrno();
  if (errno === Errno.EAGAIN) return false;
  throw systemError(errno, 'sendmsg', address);
}

/** struct sockaddr_un, no longer than its name. */
function encodeAddress(address: string): Uint8Array {
  const path = encodeName(address);
  const isAbstract = address.startsWith('@');
  if ((!isAbstract && !address.startsWith('/')) || path.length > pathMaxBytes) {
    throw ebbError('EINVAL', `${address} is no address of a service manager.`);
  }
  // A name of the abstract namespace begins with a zero and has none at its end.
  const name = new Uint8Array(addressHeaderBytes + path.length + (isAbstract ? 0 : 1));
  new DataView(name.buffer).setUint16(0, AF_UNIX, true);
  name.set(path, addressHeaderBytes);
  if (isAbstract) name[addressHeaderBytes] = 0;
  return name;
}

/** One message of control data with one descriptor: CMSG_LEN(4). */
function rightsOf(fd: number): Uint8Array {
  const control = new Uint8Array(controlHeaderBytes + descriptorBytes);
  const view = new DataView(control.buffer);
  view.setBigUint64(0, BigInt(control.length), true);
  view.setInt32(8, SOL_SOCKET, true);
  view.setInt32(12, SCM_RIGHTS, true);
  view.setInt32(controlHeaderBytes, fd, true);
  return control;
}

function pointers(words: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(words).buffer);
}
