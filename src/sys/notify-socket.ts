/**
 * Datagrams to a service manager (sd_notify(3)): `NOTIFY_SOCKET` is the path of a unix socket, or with `@` a name in
 * the abstract namespace; descriptors go along (socket.ts).
 */
import { Errno } from '../base/errno.ts';
import { ebbError } from '../base/errors.ts';
import { encodeName } from '../base/name.ts';
import { OwnedFd } from './fd.ts';
import { bind, lazily, orThrow, systemError } from './ffi.ts';
import { AF_UNIX, SOCK_CLOEXEC, encodeRights, sendMessage } from './socket.ts';

const SOCK_DGRAM = 2;
/** sun_path holds 108 bytes with the closing zero. */
const pathMaxBytes = 107;
const addressHeaderBytes = 2;

const native = lazily(() => ({
  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
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
  const sent = sendMessage(socket.fd, {
    name: encodeAddress(address),
    payload: Buffer.from(text),
    control: fd === undefined ? undefined : encodeRights(fd),
  });
  if (sent >= 0) return true;
  if (sent === -Errno.EAGAIN) return false;
  throw systemError(-sent, 'sendmsg', address);
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
