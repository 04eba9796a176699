/**
 * Handle tokens: which file a program may ask for again, under whatever name, sealed by the tree's handle secret. Pure.
 *
 * Body, 45 bytes: u8 kind (1: a file by its id), u64 id, u32 revision, all big endian; HMAC-SHA256 (all 32 bytes) of
 * the token's tag and what stands before. The revision is raised to revoke the tokens of one file.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../../base/assert.ts';
import { formatToken, parseToken } from '../../base/handle-token.ts';

const kindFile = 1;
const factsBytes = 13;
const macBytes = 32;
const tagDigits = 16;

export interface TokenFacts {
  /** 1 .. 2^53-1. */
  readonly id: number;
  /** 0 .. 2^32-1. */
  readonly revision: number;
}

/** What all tokens of a tree begin with; says nothing about the tree. */
export function tagOf(treeId: string): string {
  return createHash('sha256').update(`ebb token ${treeId}`).digest('hex').slice(0, tagDigits);
}

export class TokenSeal {
  readonly tag: string;
  readonly #key: Uint8Array;

  /** `key`: `HandleSecret.tokenKey`. */
  constructor(treeId: string, key: Uint8Array) {
    this.tag = tagOf(treeId);
    this.#key = key;
  }

  seal({ id, revision }: TokenFacts): string {
    assert(Number.isSafeInteger(id) && id >= 1, 'a file has an id');
    const facts = Buffer.alloc(factsBytes);
    facts.writeUInt8(kindFile, 0);
    facts.writeBigUInt64BE(BigInt(id), 1);
    facts.writeUInt32BE(revision, 9);
    const body = Buffer.concat([facts, this.#macOf(this.tag, facts)]).toString('base64url');
    return formatToken({ tag: this.tag, body });
  }

  /**
   * What the token says, undefined when this tree did not seal it. Takes the same time whatever is wrong with a token
   * of the right form, so that nobody learns from it how far a guess was right.
   */
  unseal(text: string): TokenFacts | undefined {
    const parsed = parseToken(text);
    if (parsed === undefined) return undefined;
    const bytes = Buffer.from(parsed.body, 'base64url');
    if (bytes.length !== factsBytes + macBytes) return undefined;
    const facts = bytes.subarray(0, factsBytes);
    const isOurs = timingSafeEqual(bytes.subarray(factsBytes), this.#macOf(parsed.tag, facts));
    if (!isOurs || parsed.tag !== this.tag || facts.readUInt8(0) !== kindFile) return undefined;
    return { id: Number(facts.readBigUInt64BE(1)), revision: facts.readUInt32BE(9) };
  }

  #macOf(tag: string, facts: Uint8Array): Buffer {
    return createHmac('sha256', this.#key).update(tag).update(facts).digest();
  }
}
