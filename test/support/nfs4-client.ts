/**
 * As much of an NFSv4.0 client (RFC 7530, RFC 5531) as it takes to keep a file handle over everything that happens to
 * the server and to read through it: a client of the kernel does this, the programs of libnfs resolve paths anew.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** nfsstat4 (RFC 7530, 13.1). */
export const NfsStatus = { ok: 0, ioError: 5, readOnly: 30, stale: 70 } as const;

const Operation = {
  create: 6,
  getfh: 10,
  lookup: 15,
  putfh: 22,
  putrootfh: 24,
  read: 25,
  write: 38,
} as const;
const nfsProgram = 100_003;
const directoryType = 2;
/** stable_how4: it is on stable storage when the answer comes. */
const fileSync = 2;
const readBytes = 65_536;
const answerTimeoutMs = 30_000;

/** XDR (RFC 4506): everything in units of four bytes, most significant first. */
class XdrWriter {
  readonly #parts: Buffer[] = [];

  u32(...values: number[]): this {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index);
    this.#parts.push(bytes);
    return this;
  }

  opaque(bytes: Uint8Array): this {
    this.u32(bytes.length);
    this.#parts.push(Buffer.from(bytes), Buffer.alloc((4 - (bytes.length % 4)) % 4));
    return this;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u32(): number {
    const value = this.#bytes.readUInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  opaque(): Buffer {
    const length = this.u32();
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length + ((4 - (length % 4)) % 4);
    return bytes;
  }
}

export class Nfs4Client {
  readonly #port: number;
  #callId = 0;

  constructor(port: number) {
    this.#port = port;
  }

  /** The handle of a path below the server's root. Throws the status as text. */
  async handleOf(names: readonly string[]): Promise<Buffer> {
    const operations = [
      new XdrWriter().u32(Operation.putrootfh),
      ...names.map((name) => new XdrWriter().u32(Operation.lookup).opaque(Buffer.from(name))),
      new XdrWriter().u32(Operation.getfh),
    ];
    const { status, reader } = await this.#compound(operations);
    if (status !== NfsStatus.ok) throw new Error(`looking up ${names.join('/')}: ${status}`);
    for (let done = 0; done < operations.length; done += 1) {
      reader.u32();
      reader.u32();
    }
    return Buffer.from(reader.opaque());
  }

  /** The first 64 KiB of the file, or the status that the server gave; with the anonymous state. */
  async read(handle: Uint8Array): Promise<Buffer | number> {
    const { status, reader } = await this.#compound([
      new XdrWriter().u32(Operation.putfh).opaque(handle),
      new XdrWriter().u32(Operation.read, 0, 0, 0, 0, 0, 0, readBytes),
    ]);
    if (status !== NfsStatus.ok) return status;
    // Results of PUTFH and READ: operation and status each, then end of file.
    for (let skipped = 0; skipped < 5; skipped += 1) reader.u32();
    return Buffer.from(reader.opaque());
  }

  /** Writes to the beginning of the file; the status. With the anonymous state. */
  async write(handle: Uint8Array, bytes: Uint8Array): Promise<number> {
    const { status } = await this.#compound([
      new XdrWriter().u32(Operation.putfh).opaque(handle),
      new XdrWriter().u32(Operation.write, 0, 0, 0, 0, 0, 0, fileSync).opaque(bytes),
    ]);
    return status;
  }

  /** Makes a directory; the status. */
  async makeDirectory(parent: Uint8Array, name: string): Promise<number> {
    const { status } = await this.#compound([
      new XdrWriter().u32(Operation.putfh).opaque(parent),
      new XdrWriter().u32(Operation.create, directoryType).opaque(Buffer.from(name)).u32(0, 0),
    ]);
    return status;
  }

  /** Sends one COMPOUND; the reader stands before the results of its operations. */
  async #compound(
    operations: readonly XdrWriter[],
  ): Promise<{ readonly status: number; readonly reader: XdrReader }> {
    this.#callId += 1;
    const credentials = new XdrWriter().u32(0).opaque(Buffer.from('ebb')).u32(0, 0, 0).bytes;
    const call = new XdrWriter()
      .u32(this.#callId, 0, 2, nfsProgram, 4, 1, 1)
      .opaque(credentials)
      .u32(0, 0)
      .opaque(new Uint8Array(0))
      .u32(0, operations.length).bytes;
    const message = Buffer.concat([call, ...operations.map(({ bytes }) => bytes)]);
    const mark = Buffer.alloc(4);
    mark.writeUInt32BE((0x8000_0000 | message.length) >>> 0);
    const reader = new XdrReader(await this.#exchange(Buffer.concat([mark, message])));
    const [id, , denied] = [reader.u32(), reader.u32(), reader.u32()];
    reader.u32();
    reader.opaque();
    const refused = reader.u32();
    if (id !== this.#callId || denied !== 0 || refused !== 0)
      throw new Error('the call was refused');
    const status = reader.u32();
    reader.opaque();
    reader.u32();
    return { status, reader };
  }

  /** One connection for each call: the server may be another one by the next. */
  async #exchange(request: Buffer): Promise<Buffer> {
    const socket = connect(this.#port, '127.0.0.1');
    socket.setTimeout(answerTimeoutMs, () => socket.destroy(new Error('the NFS server is silent')));
    try {
      socket.write(request);
      return await receive(socket);
    } finally {
      socket.destroy();
    }
  }
}

/** One record: fragments, each with its length and whether it is the last one (RFC 5531, 11). */
async function receive(socket: Socket): Promise<Buffer> {
  let received = Buffer.alloc(0);
  for await (const piece of socket as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, piece]);
    const record = wholeRecord(received);
    if (record !== undefined) return record;
  }
  throw new Error('the NFS server closed the connection');
}

function wholeRecord(received: Buffer): Buffer | undefined {
  const fragments: Buffer[] = [];
  for (let at = 0; at + 4 <= received.length;) {
    const mark = received.readUInt32BE(at);
    const end = at + 4 + (mark & 0x7fff_ffff);
    if (end > received.length) return undefined;
    fragments.push(received.subarray(at + 4, end));
    if (mark >>> 31 === 1) return Buffer.concat(fragments);
    at = end;
  }
  return undefined;
}
