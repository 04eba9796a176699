/**
 * A C struct declared once: the field list gives offsets, size, decoder and encoder, so that the
 * two directions cannot disagree. The golden tests hold the layouts against bytes that the C
 * compiler made.
 *
 * The hot path reads single fields through `offsets`; `decode` and `encode` make plain objects, for
 * the synthetic kernel, traces and rare requests.
 */
import { ProtocolError } from './buffer.ts';
import type { WireBuffer } from './buffer.ts';

/** `token64` is an opaque 64-bit value of which 53 bits are kept; `i32` and `i64` are signed. */
export type FieldKind = 'u16' | 'u32' | 'i32' | 'u64' | 'i64' | 'token64';
export type Fields = Readonly<Record<string, FieldKind>>;
export type Values<F extends Fields> = { [K in keyof F]: number };

export interface Struct<F extends Fields = Fields> {
  readonly name: string;
  readonly sizeBytes: number;
  readonly fields: F;
  /** Byte offset of each field from the start of the struct. */
  readonly offsets: { readonly [K in keyof F]: number };
  /**
   * Throws `ProtocolError` for numbers that do not fit. The caller checked that the bytes are
   * there.
   */
  decode(buffer: WireBuffer, atBytes: number): Values<F>;
  /** Fields that are left out are zero. */
  encode(buffer: WireBuffer, atBytes: number, values: Partial<Values<F>>): void;
}

const kindSizes: Readonly<Record<FieldKind, number>> = {
  u16: 2,
  u32: 4,
  i32: 4,
  u64: 8,
  i64: 8,
  token64: 8,
};

function readField(buffer: WireBuffer, kind: FieldKind, atBytes: number): number {
  switch (kind) {
    case 'u16':
      return buffer.u16(atBytes);
    case 'u32':
      return buffer.u32(atBytes);
    case 'i32':
      return buffer.u32(atBytes) | 0;
    case 'u64':
      return buffer.u64(atBytes);
    case 'i64':
      return buffer.i64(atBytes);
    case 'token64':
      return buffer.token(atBytes);
  }
}

function writeField(buffer: WireBuffer, kind: FieldKind, atBytes: number, value: number): void {
  if (!Number.isSafeInteger(value)) throw new ProtocolError(`${value} is not a safe integer`);
  if (kind === 'u16') buffer.setU16(atBytes, value);
  else if (kind === 'u32' || kind === 'i32') buffer.setU32(atBytes, value);
  else buffer.set64(atBytes, value);
}

/**
 * Declares a struct. Fields follow each other without gaps: FUSE pads its structs by hand, so must
 * the list. `tailBytes` is reserved space after the last field.
 */
export function struct<const F extends Fields>(name: string, fields: F, tailBytes = 0): Struct<F> {
  const offsets: Record<string, number> = {};
  const list: [string, FieldKind, number][] = [];
  let atBytes = 0;
  for (const [field, kind] of Object.entries(fields)) {
    offsets[field] = atBytes;
    list.push([field, kind, atBytes]);
    atBytes += kindSizes[kind];
  }
  const sizeBytes = atBytes + tailBytes;
  return Object.freeze({
    name,
    sizeBytes,
    fields,
    offsets: Object.freeze(offsets) as { readonly [K in keyof F]: number },
    decode(buffer: WireBuffer, at: number): Values<F> {
      const values: Record<string, number> = {};
      for (const [field, kind, offset] of list)
        values[field] = readField(buffer, kind, at + offset);
      return values as Values<F>;
    },
    encode(buffer: WireBuffer, at: number, values: Partial<Values<F>>): void {
      buffer.bytes.fill(0, at, at + sizeBytes);
      for (const [field, kind, offset] of list) {
        writeField(buffer, kind, at + offset, (values as Record<string, number>)[field] ?? 0);
      }
    },
  });
}
