/**
 * The generation of a node, which makes the kernel's file handle of it hard to guess: the first 32 bits of a keyed
 * MAC of the node's id (docs/decisions/0021-handles-that-last.md). It is derived, so nothing is stored per node, and
 * stays the same over remounts and restarts for as long as the tree keeps its handle secret.
 */
import { SipHasher } from '../base/siphash.ts';
import { ROOT_NODE_ID } from '../catalog/catalog.ts';

export class Generations {
  readonly #hasher: SipHasher;

  /** `key`: 16 bytes (`HandleSecret.generationKey`). */
  constructor(key: Uint8Array) {
    this.#hasher = new SipHasher(key);
  }

  /** 0 for the root, as the kernel wants it; 1 .. 2^32-1 for every other node. */
  of(nodeId: number): number {
    if (nodeId === ROOT_NODE_ID) return 0;
    return this.#hasher.low32(nodeId) || 1;
  }
}
