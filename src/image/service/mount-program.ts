/**
 * The other side of a libfuse service socket: a mount program with the rights of who mounts, where we have none. It
 * opens what he has named, and mounts. libfuse's master branch of 2026, protocol 1 (include/fuse_service_priv.h,
 * util/mount_service.c): a SEQPACKET socket, one packet for each message, numbers big endian, strings end with a zero.
 */
import { fstatSync, readSync } from 'node:fs';
import { errnoCodeOf, errnoMessage } from '../../base/errno.ts';
import { ebbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { PollEvent, PollSet } from '../../sys/poll.ts';
import { receiveMessage, sendMessage } from '../../sys/socket.ts';
import type { Received } from '../../sys/socket.ts';

/** Four letters each. */
const Magic = {
  hello: 0x53414654,
  helloReply: 0x4c415354,
  open: 0x4f50454e,
  type: 0x54595045,
  source: 0x4e414d45,
  options: 0x4f505453,
  mountPoint: 0x4d4e5450,
  mount: 0x444f4954,
  bye: 0x42594545,
  file: 0x46494c45,
  reply: 0x5245504c,
  words: 0x41524753,
} as const;
const protocolVersion = 1;
const packetMaxBytes = 65_536;
const answerTimeoutMs = 60_000;
const wordsMaxBytes = 1024 * 1024;
const wordsMax = 4096;
const helloBytes = 12;
const wordsHeadBytes = 8;
const wordPlaceBytes = 8;
const directoryFormat = 0o040000;
/** O_RDONLY of open(2). */
const forReading = 0;

/** What it gives unasked. */
export interface Greeting {
  /** What the user has typed: type, image, directory and options, without `-t`. */
  readonly words: readonly string[];
  /** /dev/fuse, not mounted yet. The caller's. */
  readonly device: OwnedFd;
}

export interface ServiceMount {
  /** What mount(8) shows. */
  readonly source: string;
  /** As the user has typed it. */
  readonly mountPoint: string;
  /** Of FUSE, with commas between. */
  readonly options: string;
  /** MS_RDONLY and the like. */
  readonly flags: number;
}

export class MountProgram implements Disposable {
  readonly #socket: OwnedFd;

  /** Takes the socket over. */
  constructor(socket: OwnedFd) {
    this.#socket = socket;
  }

  /** The beginning. Throws EPROTO for another protocol, ETIMEDOUT, ECONNRESET. */
  greet(): Greeting {
    const { payload } = this.#receive();
    const view = viewOf(payload);
    const isHello = payload.length === helloBytes && view.getUint32(0) === Magic.hello;
    if (!isHello || view.getUint16(4) > protocolVersion || view.getUint16(6) < protocolVersion) {
      throw ebbError('EPROTO', 'The mount program speaks another protocol than 1.');
    }
    this.#send(packet(Magic.helloReply, protocolVersion << 16));
    using words = this.#file('argv');
    return { words: readWords(words.fd), device: this.#file('fusedev') };
  }

  /** Opens for reading what the user has named, with his rights. Throws ENOENT, EACCES, ... */
  open(path: string): OwnedFd {
    this.#send(withText(packet(Magic.open, forReading, 0, 0, 0), path));
    return this.#file(path);
  }

  /** Throws what mount(2) gives the mount program. */
  mount({ source, mountPoint, options, flags }: ServiceMount): void {
    this.#ask('the type', packet(Magic.type, 0));
    this.#ask('the source', withText(packet(Magic.source), source));
    const place = withText(packet(Magic.mountPoint, directoryFormat << 16), mountPoint);
    this.#ask('the mount point', place);
    this.#ask('the options', withText(packet(Magic.options), options));
    this.#ask('the mount', packet(Magic.mount, flags));
  }

  /** Its exit code. It says nothing any more, whether it hears this or is gone. */
  bye(exitCode: number): void {
    sendMessage(this.#socket.fd, { payload: packet(Magic.bye, exitCode), control: undefined });
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  #ask(what: string, message: Uint8Array): void {
    this.#send(message);
    const { payload } = this.#receive();
    const view = viewOf(payload);
    if (payload.length !== 8 || view.getUint32(0) !== Magic.reply) throw nonsense();
    throwRefusal(`The mount program refuses ${what}`, view.getUint32(4));
  }

  /** The file that was asked for by that name. */
  #file(name: string): OwnedFd {
    const { payload, fd } = this.#receive();
    try {
      const view = viewOf(payload);
      const isFile = payload.length >= 9 && view.getUint32(0) === Magic.file;
      const named = isFile ? decodeName(payload.subarray(8, payload.length - 1)) : '';
      if (!isFile || named !== name) throw nonsense();
      throwRefusal(name, view.getUint32(4));
      if (fd === undefined) throw nonsense();
      return fd;
    } catch (error) {
      fd?.close();
      throw error;
    }
  }

  #send(message: Uint8Array): void {
    const sent = sendMessage(this.#socket.fd, { payload: message, control: undefined });
    if (sent < 0) throwRefusal('The mount program', -sent);
  }

  #receive(): Received {
    const waiting = new PollSet([{ fd: this.#socket.fd, events: PollEvent.in }]);
    const giveUpAt = performance.now() + answerTimeoutMs;
    for (let leftMs = answerTimeoutMs; leftMs > 0; leftMs = giveUpAt - performance.now()) {
      waiting.wait(Math.ceil(leftMs));
      const received = receiveMessage(this.#socket.fd, packetMaxBytes);
      if (received === undefined) continue;
      if (received.payload.length > 0) return received;
      throw ebbError('ECONNRESET', 'The mount program is gone.');
    }
    throw ebbError('ETIMEDOUT', 'The mount program says nothing.');
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function nonsense(): Error {
  return ebbError('EPROTO', 'The mount program sends nonsense.');
}

function throwRefusal(what: string, errno: number): void {
  if (errno === 0) return;
  throw ebbError(errnoCodeOf(errno) ?? 'EIO', `${what}: ${errnoMessage(errno)}.`);
}

function packet(...numbers: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(numbers.length * 4);
  for (const [index, number] of numbers.entries()) viewOf(bytes).setUint32(index * 4, number);
  return bytes;
}

function withText(head: Uint8Array, text: string): Uint8Array {
  return Buffer.concat([head, encodeName(text), Uint8Array.of(0)]);
}

/** The words in a file in memory: how many, where each is and how long, then the strings. */
function readWords(fd: number): string[] {
  const { size } = fstatSync(fd);
  if (size < wordsHeadBytes || size > wordsMaxBytes) throw nonsense();
  const bytes = new Uint8Array(size);
  if (readSync(fd, bytes, 0, size, 0) !== size) throw nonsense();
  const view = viewOf(bytes);
  const count = view.getUint32(4);
  const isTable =
    view.getUint32(0) === Magic.words &&
    count <= wordsMax &&
    wordsHeadBytes + count * wordPlaceBytes <= size;
  if (!isTable) throw nonsense();
  return Array.from({ length: count }, (_, index) => {
    const at = wordsHeadBytes + index * wordPlaceBytes;
    const [position, lengthBytes] = [view.getUint32(at), view.getUint32(at + 4)];
    if (lengthBytes < 1 || position + lengthBytes > size) throw nonsense();
    return decodeName(bytes.subarray(position, position + lengthBytes - 1));
  });
}
