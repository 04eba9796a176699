/**
 * Encrypted names as Linux shows them without the key (fs/crypto/fname.c): the hash of the encrypted
 * bytes and these bytes in base64url, of long ones the beginning and a SHA-256 of the rest.
 */
import { crypto } from '../base/late-modules.ts';
import { hashName } from './hash.ts';
import type { NameHash } from './hash.ts';
import type { Superblock } from './superblock.ts';

const hashSize = 8;
const plainMax = 149;
const digestSize = 32;

/**
 * 1 to 255 encrypted bytes as a name without '/' and NUL, at most 252 bytes. `storedHash`: of a directory that folds
 * case; its keyed hash is stored with the name.
 */
export function noKeyName(
  superblock: Superblock,
  encrypted: Uint8Array,
  storedHash?: NameHash,
): Uint8Array {
  const { hashVersion, hashSeed, hashUnsigned } = superblock;
  const hash = storedHash ?? hashName(encrypted, hashVersion, hashSeed, hashUnsigned);
  const head = Buffer.alloc(hashSize);
  head.writeUInt32LE(hash?.major ?? 0, 0);
  head.writeUInt32LE(hash?.minor ?? 0, 4);
  const parts = [head, encrypted.subarray(0, plainMax)];
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
  return crypto().createHash('sha256').update(encrypted.subarray(plainMax)).digest();
}
