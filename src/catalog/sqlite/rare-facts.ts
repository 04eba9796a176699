/**
 * Rare facts of a node in one byte string: the symlink's target and the remote's `user.` attributes. One column
 * instead of two, because nearly every node has neither and each column of a row costs time.
 *
 * Layout (little endian): u8 flags (1 = target, 2 = xattrs); target: u32 length, bytes; xattrs: u32 count, then
 * for each u32 length + name, u32 length + value.
 */
import { assert } from '../../base/assert.ts';
import { decodeName, encodeName } from '../../base/name.ts';

export interface RareFacts {
  readonly target: Uint8Array | null;
  readonly xattrs: ReadonlyMap<string, Uint8Array> | null;
}

const hasTarget = 1;
const hasXattrs = 2;

/** Null when there is nothing to keep. */
export function encodeRareFacts(facts: RareFacts): Uint8Array | null {
  const { target, xattrs } = facts;
  if (target === null && xattrs === null) return null;
  const parts: Uint8Array[] = [
    Uint8Array.of((target === null ? 0 : hasTarget) | (xattrs === null ? 0 : hasXattrs)),
  ];
  if (target !== null) parts.push(u32(target.length), target);
  if (xattrs !== null) {
    parts.push(u32(xattrs.size));
    for (const [name, value] of xattrs) {
      const nameBytes = encodeName(name);
      parts.push(u32(nameBytes.length), nameBytes, u32(value.length), value);
    }
  }
  return Buffer.concat(parts);
}

/** The inverse. The bytes come from our own database: anything else is an assertion. */
export function decodeRareFacts(bytes: Uint8Array | null): RareFacts {
  if (bytes === null) return { target: null, xattrs: null };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 1;
  const take = (): Uint8Array => {
    const length = view.getUint32(offset, true);
    offset += 4 + length;
    assert(offset <= bytes.length, 'the rare facts of a node end early');
    return bytes.slice(offset - length, offset);
  };
  const flags = view.getUint8(0);
  const target = (flags & hasTarget) === 0 ? null : take();
  if ((flags & hasXattrs) === 0) return { target, xattrs: null };
  const count = view.getUint32(offset, true);
  offset += 4;
  const xattrs = new Map<string, Uint8Array>();
  for (let index = 0; index < count; index += 1) {
    const name = decodeName(take());
    xattrs.set(name, take());
  }
  return { target, xattrs };
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
