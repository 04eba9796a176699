/**
 * Rare facts of a node in one byte string: the symlink's target and the remote's `user.` attributes. One column
 * instead of two, because nearly every node has neither and each column of a row costs time.
 *
 * Layout (little endian): u8 flags (1 = target, 2 = xattrs); target: u32 length, bytes; xattrs: u32 count, then
 * for each u32 length + name, u32 length + value.
 */
import { decodeName, encodeName } from '../../base/name.ts';
import { damagedRow } from './sound-rows.ts';

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

/** The inverse. Throws EUCLEAN. */
export function decodeRareFacts(bytes: Uint8Array | null): RareFacts {
  if (bytes === null) return { target: null, xattrs: null };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 1;
  const takeNumber = (): number => {
    if (offset + 4 > bytes.length) throw damagedRow('the rare facts of a name end early');
    offset += 4;
    return view.getUint32(offset - 4, true);
  };
  const take = (): Uint8Array => {
    const length = takeNumber();
    offset += length;
    if (offset > bytes.length) throw damagedRow('the rare facts of a name end early');
    return bytes.slice(offset - length, offset);
  };
  const flags = bytes[0] ?? 0;
  const target = (flags & hasTarget) === 0 ? null : take();
  if ((flags & hasXattrs) === 0) return { target, xattrs: null };
  const count = takeNumber();
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
