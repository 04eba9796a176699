/**
 * The stored form of a residency bitmap: run lengths or raw bits, whichever is smaller. Pure.
 *
 * Layout: u8 version (1), u8 form, varint chunk count, then
 *   form 1 (runs): varint run lengths, alternately absent and present, starting with absent; only the first may
 *     be 0; together they are the chunk count.
 *   form 2 (bits): one bit per chunk, lowest first; the unused bits of the last byte are 0.
 * Decoding is strict: one bitmap has one form of each kind, and anything else is refused (EUCLEAN).
 */
import { assert } from '../base/assert.ts';
import { ebbError } from '../base/errors.ts';

const formatVersion = 1;
const Form = { runs: 1, bits: 2 } as const;

interface Run {
  readonly first: number;
  readonly count: number;
}

/** `runs`: the present chunks as maximal runs in ascending order. */
export function encodeBitmap(runs: readonly Run[], chunkCount: number): Uint8Array {
  const bitBytes = Math.ceil(chunkCount / 8);
  const lengths: number[] = [];
  let end = 0;
  for (const run of runs) {
    lengths.push(run.first - end, run.count);
    end = run.first + run.count;
  }
  assert(end <= chunkCount, 'the runs lie inside the bitmap');
  if (end < chunkCount) lengths.push(chunkCount - end);
  const body = varints(lengths, bitBytes);
  if (body !== undefined) {
    return Uint8Array.from([formatVersion, Form.runs, ...varint(chunkCount), ...body]);
  }
  const head = [formatVersion, Form.bits, ...varint(chunkCount)];
  const bytes = new Uint8Array(head.length + bitBytes);
  bytes.set(head);
  for (const run of runs) setBits(bytes.subarray(head.length), run);
  return bytes;
}

/** The present chunks as maximal runs. Throws EUCLEAN unless `bytes` are exactly an encoding of `chunkCount`. */
export function decodeBitmap(bytes: Uint8Array, chunkCount: number): Run[] {
  if (bytes[0] !== formatVersion) throw invalid(`it has the format ${bytes[0] ?? 'of nothing'}`);
  const cursor: Cursor = { bytes, offset: 2 };
  const storedCount = readVarint(cursor);
  if (storedCount !== chunkCount) {
    throw invalid(`it is about ${storedCount} chunks, the file has ${chunkCount}`);
  }
  if (bytes[1] === Form.runs) return decodeRuns(cursor, chunkCount);
  if (bytes[1] === Form.bits) return decodeBits(bytes.subarray(cursor.offset), chunkCount);
  throw invalid(`it has the form ${bytes[1] ?? 'of nothing'}`);
}

interface Cursor {
  readonly bytes: Uint8Array;
  offset: number;
}

function decodeRuns(cursor: Cursor, chunkCount: number): Run[] {
  const runs: Run[] = [];
  let position = 0;
  for (let index = 0; position < chunkCount; index += 1) {
    const length = readVarint(cursor);
    if (length === 0 && index > 0) throw invalid('a run is empty');
    if (length > chunkCount - position) throw invalid('it says more than the file has');
    if (index % 2 === 1) runs.push({ first: position, count: length });
    position += length;
  }
  if (cursor.offset !== cursor.bytes.length) throw invalid('bytes are left over');
  return runs;
}

function decodeBits(bits: Uint8Array, chunkCount: number): Run[] {
  if (bits.length !== Math.ceil(chunkCount / 8)) throw invalid('its length is wrong');
  const isSet = (chunk: number): boolean => (((bits[chunk >>> 3] ?? 0) >>> (chunk & 7)) & 1) === 1;
  for (let chunk = chunkCount; chunk < bits.length * 8; chunk += 1) {
    if (isSet(chunk)) throw invalid('it says more than the file has');
  }
  const runs: Run[] = [];
  for (let first = 0; first < chunkCount; first += 1) {
    if (!isSet(first)) continue;
    let end = first + 1;
    while (end < chunkCount && isSet(end)) end += 1;
    runs.push({ first, count: end - first });
    first = end;
  }
  return runs;
}

/** The lengths as varints, or undefined when they take more than `bytesMax` bytes. */
function varints(lengths: readonly number[], bytesMax: number): number[] | undefined {
  const bytes: number[] = [];
  for (const length of lengths) {
    bytes.push(...varint(length));
    // A few runs are always worth it: the raw form of a short file is short anyway.
    if (bytes.length > Math.max(bytesMax, 2)) return undefined;
  }
  return bytes;
}

/** LEB128. 0 <= value <= 2^53-1. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return bytes;
}

function readVarint(cursor: Cursor): number {
  let value = 0;
  for (let scale = 1; ; scale *= 0x80) {
    const byte = cursor.bytes[cursor.offset];
    if (byte === undefined) throw invalid('it ends early');
    cursor.offset += 1;
    value += (byte & 0x7f) * scale;
    if (!Number.isSafeInteger(value)) throw invalid('a number is too large');
    if (byte < 0x80) {
      if (byte === 0 && scale > 1) throw invalid('a number is padded');
      return value;
    }
  }
}

function setBits(bits: Uint8Array, run: Run): void {
  for (let chunk = run.first; chunk < run.first + run.count; chunk += 1) {
    bits[chunk >>> 3] = (bits[chunk >>> 3] ?? 0) | (1 << (chunk & 7));
  }
}

function invalid(why: string): Error {
  return ebbError('EUCLEAN', `A residency record cannot be read: ${why}.`, { retryable: false });
}
