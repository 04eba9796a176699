/**
 * Paths in query strings. `encodeURIComponent` refuses the lone surrogates by which base/name.ts keeps bytes
 * that are not UTF-8; here the raw bytes of the name are percent-encoded (RFC 3986), so nothing is lost.
 */
import { decodeName, encodeName } from './name.ts';

const unreserved = /[A-Za-z0-9\-._~/]/;

/** Percent-encodes a path; `/` stays as it is. */
export function encodePathParameter(name: string): string {
  let text = '';
  for (const byte of encodeName(name)) {
    const character = String.fromCharCode(byte);
    text += unreserved.test(character)
      ? character
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}

/** The inverse, from the raw (still encoded) text of one parameter. Stray `%` stand for themselves. */
export function decodePathParameter(text: string): string {
  const latin1 = text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return decodeName(Buffer.from(latin1, 'latin1'));
}
