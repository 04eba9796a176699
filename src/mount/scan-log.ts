/**
 * What programs that read a directory were given, in memory that outlives the daemon (a memfd, as handle-table.ts): a
 * successor must not give a file that was replaced meanwhile a second time, under its new node. Appended before each
 * answer; how much of it counts stands in the header, which is written last. One thread writes. When it cannot be
 * written, that is what is lost, and nothing else.
 */
import { pread, pwrite } from '../sys/io.ts';

/** Bytes of the log; beyond it the scans that are still going on are written anew. */
export const scanLogMaxBytes = 16 * 1024 * 1024;
/** Of each record: handle, node id (64-bit floats), length of the name, padding. */
const recordBytes = 24;
const headerBytes = 8;
const nameMaximumBytes = 255;
const bufferBytes = 64 * 1024;

/** `nodeId` 0: the scan began anew, or is over. */
export interface GivenName {
  readonly handle: number;
  readonly nodeId: number;
  /** Bytes as latin1. */
  readonly name: string;
}

export class ScanLog {
  readonly #fd: number | undefined;
  readonly #buffer = Buffer.alloc(bufferBytes);
  readonly #header = new Float64Array(1);
  #buffered = 0;
  #written = 0;

  /** `fd`: read and written, stays the caller's. Undefined: nothing survives this process. */
  constructor(fd: number | undefined) {
    this.#fd = fd;
  }

  get isFull(): boolean {
    return this.#written + this.#buffered > scanLogMaxBytes;
  }

  /** What predecessors wrote, in order; before anything else. */
  *restore(): Generator<GivenName> {
    if (this.#fd === undefined) return;
    const header = new Uint8Array(this.#header.buffer);
    if (pread(this.#fd, header, 0) !== headerBytes) return;
    const all = Buffer.alloc(this.#header[0] ?? 0);
    for (let at = 0; at < all.length;) {
      const count = pread(this.#fd, all.subarray(at), headerBytes + at);
      if (count <= 0) return;
      at += count;
    }
    this.#written = all.length;
    for (let at = 0; at + recordBytes <= all.length;) {
      const nameAt = at + recordBytes;
      const end = nameAt + all.readUInt32LE(at + 16);
      const name = all.toString('latin1', nameAt, end);
      yield { handle: all.readDoubleLE(at), nodeId: all.readDoubleLE(at + 8), name };
      at = end;
    }
  }

  add({ handle, nodeId, name }: GivenName): void {
    if (this.#fd === undefined) return;
    if (this.#buffered + recordBytes + nameMaximumBytes > bufferBytes) this.flush();
    const at = this.#buffered;
    this.#buffer.writeDoubleLE(handle, at);
    this.#buffer.writeDoubleLE(nodeId, at + 8);
    this.#buffer.writeUInt32LE(name.length, at + 16);
    this.#buffered = at + recordBytes + this.#buffer.write(name, at + recordBytes, 'latin1');
  }

  /** What was added counts from now on. */
  flush(): void {
    if (this.#fd === undefined || this.#buffered === 0) return;
    const bytes = this.#buffer.subarray(0, this.#buffered);
    this.#buffered = 0;
    if (pwrite(this.#fd, bytes, headerBytes + this.#written) !== bytes.length) return;
    this.#written += bytes.length;
    this.#writeHeader();
  }

  /** Nothing was given: no scan is going on, or they are about to be written anew. */
  clear(): void {
    this.#buffered = 0;
    if (this.#written === 0) return;
    this.#written = 0;
    this.#writeHeader();
  }

  #writeHeader(): void {
    this.#header[0] = this.#written;
    if (this.#fd !== undefined) pwrite(this.#fd, new Uint8Array(this.#header.buffer), 0);
  }
}
