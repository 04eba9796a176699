/**
 * The request in the read buffer, with its bounds: nothing is read that the kernel did not send.
 */
import { ProtocolError } from './wire/buffer.ts';
import { inHeader } from './wire/requests.ts';
import type { SetAttributes } from './filesystem.ts';
import type { WireBuffer } from './wire/buffer.ts';

/** Where every request's body starts. */
export const bodyAt = inHeader.sizeBytes;

export class Incoming {
  readonly buffer: WireBuffer;
  /** End of the body, without extensions. */
  endBytes = 0;
  /** After `nameAt`: where the bytes behind the name's NUL start. */
  nextBytes = 0;
  /** SETXATTR carries 16 bytes instead of 8 (SETXATTR_EXT was agreed on). */
  setxattrExtended = false;
  /** Reused by SETATTR. */
  readonly change: SetAttributes = {
    valid: 0,
    fileHandle: 0,
    sizeBytes: 0,
    atimeSeconds: 0,
    atimeNanoseconds: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    ctimeSeconds: 0,
    ctimeNanoseconds: 0,
    mode: 0,
    uid: 0,
    gid: 0,
  };

  constructor(buffer: WireBuffer) {
    this.buffer = buffer;
  }

  /** Throws unless the body has at least `structBytes`. */
  need(structBytes: number): void {
    if (bodyAt + structBytes > this.endBytes) throw new ProtocolError('the request is too short');
  }

  /** The name at `atBytes`, without its NUL. A view: valid until the next request is read. */
  nameAt(atBytes: number): Uint8Array {
    const bytes = this.buffer.bytes;
    const end = bytes.indexOf(0, atBytes);
    if (end < 0 || end >= this.endBytes) throw new ProtocolError('a name does not end');
    if (end === atBytes) throw new ProtocolError('a name is empty');
    this.nextBytes = end + 1;
    return bytes.subarray(atBytes, end);
  }

  /** `count` bytes at `atBytes`; throws when the request has fewer. */
  dataAt(atBytes: number, count: number): Uint8Array {
    if (atBytes + count > this.endBytes) throw new ProtocolError('the data is cut short');
    return this.buffer.bytes.subarray(atBytes, atBytes + count);
  }
}
