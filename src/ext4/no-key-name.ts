/**
 * Encrypted names as Linux shows them without the key (fs/crypto/fname.c): the encrypted bytes in
 * base64url, long ones with a SHA-256 of their end. The kernel puts the hash of the name in front,
 * which it only knows from the directory's index; here it is zero.
 */
import { createHash } from 'node:crypto';

const hashSize = 8;
const plainMax = 149;
const digestSize = 32;

/** 1 to 255 encrypted bytes as a name without '/' and NUL, at most 252 bytes. */
export function noKeyName(encrypted: Uint8Array): Uint8Array {
  const head = encrypted.subarray(0, plainMax);
  const parts = [new Uint8Array(hashSize), head];
  if (encrypted.length > plainMax) parts.push(digestOfRest(encrypted));
  return Buffer.from(Buffer.concat(parts).toString('base64url'));
}

/** Tells whether encrypted bytes are those that `name` stands for, whatever hash is in front of it. */
export function noKeyMatcher(name: Uint8Array): (encrypted: Uint8Array) => boolean {
  const wanted = Buffer.from(Buffer.from(name).toString('latin1'), 'base64url').subarray(hashSize);
  if (wanted.length !== plainMax + digestSize) return (encrypted) => wanted.equals(encrypted);
  const head = wanted.subarray(0, plainMax);
  const digest = wanted.subarray(plainMax);
  return (encrypted) =>
    encrypted.length > plainMax &&
    head.equals(encrypted.subarray(0, plainMax)) &&
    digest.equals(digestOfRest(encrypted));
}

function digestOfRest(encrypted: Uint8Array): Uint8Array {
  return createHash('sha256').update(encrypted.subarray(plainMax)).digest();
}
