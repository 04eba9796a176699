/**
 * Unix socket pairs that carry descriptors (SCM_RIGHTS, unix(7)): how fusermount3 hands over
 * /dev/fuse (`_FUSE_COMMFD`). Structures: struct msghdr and cmsghdr of 64-bit Linux.
 */
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { OwnedFd } from './fd.ts';
import { addressOf, bind, lastErrno, lazily, orThrow, systemError } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x08;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

const native = lazily(() => ({
  socketpair: bind<(domain: number, type: number, protocol: number, fds: Int32Array) => number>(
    'int socketpair(int domain, int type, int protocol, void *fds)',
  ),
  recvmsg: bind<(fd: number, message: Uint8Array, flags: number) => number>(
    'int64_t recvmsg(int fd, void *msg, int flags)',
  ),
  sendmsg: bind<(fd: number, message: Uint8Array, flags: number) => number>(
    'int64_t sendmsg(int fd, const void *msg, int flags)',
  ),
}));

/** Two connected sockets, close-on-exec. Pass one end to a child through `stdio`. */
export function socketPair(): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  orThrow(native().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 'socketpair');
  return [new OwnedFd(fds[0] as number), new OwnedFd(fds[1] as number)];
}

/**
 * CMSG_LEN(4): header and one descriptor. Not CMSG_SPACE(4), whose padding would take a second one.
 */
const controlBytes = 20;

/** A message of one byte with room for one descriptor; everything it points to is kept in it. */
class Message {
  readonly header = new Uint8Array(56);
  readonly view = new DataView(this.header.buffer);
  readonly control = new Uint8Array(controlBytes);
  readonly controlView = new DataView(this.control.buffer);
  readonly #vector = new Uint8Array(16);
  readonly #payload = new Uint8Array(1);

  constructor() {
    const vector = new DataView(this.#vector.buffer);
    vector.setBigUint64(0, addressOf(this.#payload), true);
    vector.setBigUint64(8, 1n, true);
    this.view.setBigUint64(16, addressOf(this.#vector), true);
    this.view.setBigUint64(24, 1n, true);
    this.view.setBigUint64(32, addressOf(this.control), true);
    this.view.setBigUint64(40, BigInt(controlBytes), true);
  }
}

/**
 * Receives the next descriptor, close-on-exec. Never waits: undefined when nothing has arrived
 * (yet). Throws ECONNRESET when the other side closed without sending one, EPROTO when it sent
 * something else.
 */
export function receiveFd(socketFd: number): OwnedFd | undefined {
  const message = new Message();
  const count = native().recvmsg(socketFd, message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (count < 0) {
    const errno = lastErrno();
    if (errno === Errno.EAGAIN) return undefined;
    throw systemError(errno, 'recvmsg', `descriptor ${socketFd}`);
  }
  const { view, controlView } = message;
  const isOneFd =
    view.getBigUint64(40, true) >= BigInt(controlBytes) &&
    controlView.getBigUint64(0, true) === BigInt(controlBytes) &&
    controlView.getInt32(8, true) === SOL_SOCKET &&
    controlView.getInt32(12, true) === SCM_RIGHTS;
  const received = isOneFd ? new OwnedFd(controlView.getInt32(16, true)) : undefined;
  if (received !== undefined && (view.getInt32(48, true) & MSG_CTRUNC) === 0) return received;
  received?.close();
  if (count === 0) {
    throw ebbError('ECONNRESET', 'The other side closed the socket without a descriptor.');
  }
  throw ebbError('EPROTO', 'The other side sent something that is not one descriptor.');
}

/**
 * Sends a descriptor; the receiver gets a second one of the same open file. Throws EPIPE, EBADF,
 * EAGAIN.
 */
export function sendFd(socketFd: number, fd: number): void {
  const message = new Message();
  message.controlView.setBigUint64(0, BigInt(controlBytes), true);
  message.controlView.setInt32(8, SOL_SOCKET, true);
  message.controlView.setInt32(12, SCM_RIGHTS, true);
  message.controlView.setInt32(16, fd, true);
  const result = native().sendmsg(socketFd, message.header, MSG_NOSIGNAL | MSG_DONTWAIT);
  orThrow(result, 'sendmsg', `descriptor ${socketFd}`);
}
