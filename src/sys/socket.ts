/**
 * Unix sockets that carry descriptors (SCM_RIGHTS, unix(7)): how fusermount3 hands over /dev/fuse (`_FUSE_COMMFD`).
 * Structures: struct msghdr and cmsghdr of 64-bit Linux.
 */
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { OwnedFd } from './fd.ts';
import {
  addressOf,
  bind,
  keeping,
  lastErrno,
  lazily,
  orErrno,
  orThrow,
  systemError,
} from './ffi.ts';

export const AF_UNIX = 1;
const SOCK_STREAM = 1;
export const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CTRUNC = 0x08;
const MSG_TRUNC = 0x20;
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

export interface MessageParts {
  /** struct sockaddr of the receiver, for a socket that is not connected. */
  readonly name?: Uint8Array;
  readonly payload: Uint8Array;
  /** What `encodeRights` gave, or room for it. */
  readonly control: Uint8Array | undefined;
}

/** struct msghdr; everything it points to is kept in it. */
class Message {
  readonly header: Uint8Array;
  readonly parts: MessageParts;
  readonly #vector: Uint8Array;

  constructor(parts: MessageParts) {
    this.parts = parts;
    this.#vector = words(placeOf(parts.payload));
    // Name, its length, vector, how many, control, its length, flags.
    const vector = [addressOf(this.#vector), 1n];
    this.header = words([...placeOf(parts.name), ...vector, ...placeOf(parts.control), 0n]);
  }
}

function placeOf(bytes: Uint8Array | undefined): [address: bigint, length: bigint] {
  return bytes === undefined ? [0n, 0n] : [addressOf(bytes), BigInt(bytes.length)];
}

function words(values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** Control data that gives the receiver a second descriptor of the same open file. */
export function encodeRights(fd: number): Uint8Array {
  const control = new Uint8Array(controlBytes);
  const view = new DataView(control.buffer);
  view.setBigUint64(0, BigInt(controlBytes), true);
  view.setInt32(8, SOL_SOCKET, true);
  view.setInt32(12, SCM_RIGHTS, true);
  view.setInt32(16, fd, true);
  return control;
}

/** Sends a message without waiting, and without SIGPIPE. Returns -errno when that fails. */
export function sendMessage(socketFd: number, parts: MessageParts): number {
  const message = new Message(parts);
  const { header } = message;
  return keeping(message, () =>
    orErrno(native().sendmsg(socketFd, header, MSG_NOSIGNAL | MSG_DONTWAIT)),
  );
}

export interface Received {
  /** Empty: the other side has closed, or sent nothing. */
  readonly payload: Uint8Array;
  /** Close-on-exec; the caller's. */
  readonly fd: OwnedFd | undefined;
}

/**
 * Receives the next message of at most `payloadMaxBytes`, and the descriptor that came with it. Never waits: undefined
 * when nothing has arrived (yet). Throws EPROTO for a longer message, or one with anything else than one descriptor.
 */
export function receiveMessage(socketFd: number, payloadMaxBytes: number): Received | undefined {
  const control = new Uint8Array(controlBytes);
  const controlView = new DataView(control.buffer);
  const payload = new Uint8Array(payloadMaxBytes);
  const message = new Message({ payload, control });
  const { header } = message;
  const count = keeping(message, () =>
    native().recvmsg(socketFd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC),
  );
  if (count < 0) {
    const errno = lastErrno();
    if (errno === Errno.EAGAIN) return undefined;
    throw systemError(errno, 'recvmsg', `descriptor ${socketFd}`);
  }
  const view = new DataView(message.header.buffer);
  const receivedControlBytes = view.getBigUint64(40, true);
  const isOneFd =
    receivedControlBytes >= BigInt(controlBytes) &&
    controlView.getBigUint64(0, true) === BigInt(controlBytes) &&
    controlView.getInt32(8, true) === SOL_SOCKET &&
    controlView.getInt32(12, true) === SCM_RIGHTS;
  const fd = isOneFd ? new OwnedFd(controlView.getInt32(16, true)) : undefined;
  const isCut = (view.getInt32(48, true) & (MSG_CTRUNC | MSG_TRUNC)) !== 0;
  if (!isCut && (isOneFd || receivedControlBytes === 0n)) {
    return { payload: payload.subarray(0, count), fd };
  }
  fd?.close();
  throw ebbError('EPROTO', 'The other side sent something that is not one descriptor.');
}

/**
 * Receives the next descriptor, close-on-exec. Never waits: undefined when nothing has arrived
 * (yet). Throws ECONNRESET when the other side closed without sending one, EPROTO when it sent
 * something else.
 */
export function receiveFd(socketFd: number): OwnedFd | undefined {
  const received = receiveMessage(socketFd, 1);
  if (received === undefined || received.fd !== undefined) return received?.fd;
  if (received.payload.length === 0) {
    throw ebbError('ECONNRESET', 'The other side closed the socket without a descriptor.');
  }
  throw ebbError('EPROTO', 'The other side sent something that is not one descriptor.');
}

/**
 * Sends a descriptor; the receiver gets a second one of the same open file. Throws EPIPE, EBADF,
 * EAGAIN.
 */
export function sendFd(socketFd: number, fd: number): void {
  const sent = sendMessage(socketFd, { payload: new Uint8Array(1), control: encodeRights(fd) });
  if (sent < 0) throw systemError(-sent, 'sendmsg', `descriptor ${socketFd}`);
}
