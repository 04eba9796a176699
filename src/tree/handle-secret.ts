/**
 * The handle secret of a tree: what makes the file handles and tokens that Ebb gives out unforgeable.
 *
 * A file of its own beside the tree's `secret`, because it can be exchanged at any time: that makes every handle and
 * token given out so far stale and touches nothing else, while the marks stay sealed by theirs. The catalog remembers
 * which secret its ids were given out under. A catalog that remembers none is new, rebuilt or of an older Ebb, and may
 * give an id a second time that was known outside: it gets a fresh secret.
 */
import { createHash, hkdfSync, randomBytes } from 'node:crypto';
import path from 'node:path';
import { ebbError, toEbbError } from '../base/errors.ts';
import { sipKeyBytes } from '../base/siphash.ts';
import { readPrivate, refusal, replacePrivate } from './private-file.ts';

export const handleSecretName = 'handle-secret';
const fileFormat = 1;
const secretBytes = 32;
const tokenKeyBytes = 32;
/** What the daemon wrote is a few lines. */
const fileBytesMax = 4_096;

/** Where the catalog keeps which secret it goes with. Both calls are durable. */
export interface HandleRecord {
  get(): string | undefined;
  set(fingerprint: string): void;
}

/** The setting of the catalog. */
const settingName = 'handle-secret';

/** In a catalog of either kind. */
export function handleRecord(catalog: {
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}): HandleRecord {
  return {
    get: () => catalog.setting(settingName),
    set: (fingerprint) => catalog.setSetting(settingName, fingerprint),
  };
}

export interface HandleSecretOptions {
  readonly directory: string;
  readonly treeId: string;
  readonly record: HandleRecord;
  /** Exchange it: every handle and token given out so far is refused from now on. */
  readonly renew: boolean;
  /** How a user exchanges it, for the sentence. */
  readonly renewal?: string;
}

export interface HandleSecret {
  /** For the generations of nodes (mount/generations.ts). */
  readonly generationKey: Uint8Array;
  /** For tokens. */
  readonly tokenKey: Uint8Array;
}

/**
 * Reads the secret, or makes it where nothing was given out under one. Holds the tree's lock already. Throws EACCES
 * (others can read it, or it is not ours), ENOENT (it is missing though handles were given out), EUCLEAN (it is
 * damaged, of another tree, or older than the catalog), each with the way out.
 */
export function openHandleSecret(options: HandleSecretOptions): HandleSecret {
  const { directory, treeId, record, renew } = options;
  const file = path.join(directory, handleSecretName);
  const expected = record.get() ?? '';
  // A tree that never held anything may have become another remote's, with an id of its own.
  if (renew || !expected.startsWith(`${treeId} `)) return keysOf(make(file, treeId, record));
  try {
    const secret = read(file, treeId);
    if (recordOf(treeId, secret) === expected) return keysOf(secret);
    throw refusal('EUCLEAN', `${file} is not the one that this cache's handles were made with`);
  } catch (error) {
    const { code, message } = toEbbError(error);
    const way = `Or ${options.renewal ?? 'mount once with --new-handles'}`;
    const effect = 'all handles and tokens given out so far become stale';
    throw ebbError(code, `${message} ${way}: ${effect}.`, { retryable: false });
  }
}

/** A crash on the way leaves a record of no secret: the next start makes another, and nothing was given out yet. */
function make(file: string, treeId: string, record: HandleRecord): Buffer {
  const secret = randomBytes(secretBytes);
  const facts = { format: fileFormat, treeId, secret: secret.toString('hex') };
  record.set('');
  try {
    replacePrivate(file, `${JSON.stringify(facts)}\n`);
  } catch (error) {
    throw toEbbError(error);
  }
  record.set(recordOf(treeId, secret));
  return secret;
}

function read(file: string, treeId: string): Buffer {
  const facts = parse(readPrivate(file, fileBytesMax).toString());
  if (facts === undefined) throw refusal('EUCLEAN', `${file} is damaged`);
  if (facts.treeId !== treeId) throw refusal('EUCLEAN', `${file} is that of another cache`);
  return facts.secret;
}

function parse(text: string): { readonly treeId: unknown; readonly secret: Buffer } | undefined {
  try {
    const facts = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const hex = facts['secret'];
    if (facts['format'] !== fileFormat || typeof hex !== 'string') return undefined;
    const secret = Buffer.from(hex, 'hex');
    return secret.length === secretBytes ? { treeId: facts['treeId'], secret } : undefined;
  } catch {
    return undefined;
  }
}

function keysOf(secret: Buffer): HandleSecret {
  return {
    generationKey: deriveKey(secret, 'ebb generation', sipKeyBytes),
    tokenKey: deriveKey(secret, 'ebb token', tokenKeyBytes),
  };
}

function deriveKey(secret: Buffer, purpose: string, lengthBytes: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, '', purpose, lengthBytes));
}

/** Tells secrets apart and says nothing about them. */
function recordOf(treeId: string, secret: Buffer): string {
  const hash = createHash('sha256').update('ebb handle secret').update(secret).digest('hex');
  return `${treeId} ${hash.slice(0, 32)}`;
}
