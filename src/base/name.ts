/**
 * File names between bytes (what Linux has) and strings (what JavaScript, JSON and URLs have),
 * without loss.
 *
 * Valid UTF-8 is itself; every other byte 0x80..0xFF becomes the lone surrogate U+DC80..U+DCFF, as
 * Python's `surrogateescape` does (PEP 383). So `encodeName(decodeName(bytes))` gives the same
 * bytes for all bytes.
 */
import { isUtf8 } from 'node:buffer';
import { ebbError } from './errors.ts';

/** NAME_MAX of Linux, in bytes. */
export const nameMaxBytes = 255;

const escapeBase = 0xdc00;
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf8 = new TextEncoder();

/** Decodes the bytes of a name or path. Never fails. The bytes may lie in shared memory. */
export function decodeName(bytes: Uint8Array): string {
  if (isAscii(bytes)) return latin1(bytes);
  // A copy, because the decoder does not read shared memory.
  const own = bytes.buffer instanceof ArrayBuffer ? bytes : new Uint8Array(bytes);
  return isUtf8(own) ? strictUtf8.decode(own) : decodeEscaping(own);
}

/**
 * Encodes a name or path. Throws EILSEQ on what `decodeName` never gives: lone surrogates outside
 * U+DC80..U+DCFF.
 */
export function encodeName(name: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(name.length);
  for (let index = 0; index < name.length; index += 1) {
    const unit = name.charCodeAt(index);
    if (unit >= 0x80) return name.isWellFormed() ? utf8.encode(name) : encodeEscaped(name);
    bytes[index] = unit;
  }
  return bytes;
}

/**
 * Why Linux cannot hold this name in a directory, as a sentence without the name; undefined when it
 * can. A name that is not in the form that `decodeName` gives (two strings for one name) is
 * refused, too.
 */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'the name is empty';
  if (name === '.' || name === '..') return 'the name is a directory reference';
  if (name.includes('/')) return 'the name contains a slash';
  if (name.includes('\0')) return 'the name contains a NUL byte';
  if (name.length > nameMaxBytes) return `the name is longer than ${nameMaxBytes} bytes`;
  if (!name.isWellFormed() && !isCanonical(name)) return 'the name is not valid Unicode';
  if (encodeName(name).length > nameMaxBytes)
    return `the name is longer than ${nameMaxBytes} bytes`;
  return undefined;
}

/**
 * Whether a directory can hold an entry of this name: 1..255 bytes, no `/`, no NUL, not `.` or
 * `..`.
 */
export function isValidName(name: string): boolean {
  return nameProblem(name) === undefined;
}

function isAscii(bytes: Uint8Array): boolean {
  for (let index = 0; index < bytes.length; index += 1) {
    if ((bytes[index] as number) >= 0x80) return false;
  }
  return true;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/**
 * Length of the valid UTF-8 sequence that starts at `index` (Unicode, table 3-7); 0 when there is
 * none.
 */
function sequenceLength(bytes: Uint8Array, index: number): number {
  const first = bytes[index] as number;
  if (first < 0x80) return 1;
  const second = bytes[index + 1] ?? 0;
  if (first >= 0xc2 && first <= 0xdf) return isContinuation(second) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const lowest = first === 0xe0 ? 0xa0 : 0x80;
    const highest = first === 0xed ? 0x9f : 0xbf;
    return second >= lowest && second <= highest && isContinuation(bytes[index + 2] ?? 0) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const lowest = first === 0xf0 ? 0x90 : 0x80;
    const highest = first === 0xf4 ? 0x8f : 0xbf;
    if (second < lowest || second > highest) return 0;
    return isContinuation(bytes[index + 2] ?? 0) && isContinuation(bytes[index + 3] ?? 0) ? 4 : 0;
  }
  return 0;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function decodeEscaping(bytes: Uint8Array): string {
  let text = '';
  let runStart = 0;
  let index = 0;
  while (index < bytes.length) {
    const length = sequenceLength(bytes, index);
    if (length > 0) {
      index += length;
      continue;
    }
    text += strictUtf8.decode(bytes.subarray(runStart, index));
    text += String.fromCharCode(escapeBase + (bytes[index] as number));
    index += 1;
    runStart = index;
  }
  return text + strictUtf8.decode(bytes.subarray(runStart));
}

function encodeEscaped(name: string): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const character of name) {
    const unit = character.charCodeAt(0);
    if (character.length === 1 && unit >= 0xd800 && unit <= 0xdfff) {
      if (unit < escapeBase + 0x80 || unit > escapeBase + 0xff) {
        throw ebbError('EILSEQ', `The name ${JSON.stringify(name)} holds half a character.`);
      }
      bytes.push(unit - escapeBase);
    } else {
      bytes.push(...utf8.encode(character));
    }
  }
  return Uint8Array.from(bytes);
}

function isCanonical(name: string): boolean {
  try {
    return decodeName(encodeName(name)) === name;
  } catch {
    return false;
  }
}
