/**
 * Open descriptors by content id: a bounded LRU. A million known files cost a million rows in the catalog, not a
 * million descriptors. Descriptors in use are pinned and never closed.
 */
import { assert } from '../base/assert.ts';
import { ebbError } from '../base/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';

export const openDescriptorsMax = 512;

interface Slot {
  readonly owned: OwnedFd;
  users: number;
}

/** A descriptor in use. Disposing (any number of times) gives it back. */
export interface DescriptorUse extends Disposable {
  readonly fd: number;
}

export class DescriptorCache implements Disposable {
  readonly #open: (id: number) => OwnedFd;
  readonly #max: number;
  /** In order of last use, oldest first. */
  readonly #slots = new Map<number, Slot>();

  /** `open` opens and verifies the file of a content; what it throws, `use` throws. 1 <= max. */
  constructor(open: (id: number) => OwnedFd, max: number = openDescriptorsMax) {
    assert(max >= 1, 'the descriptor cache holds at least one');
    this.#open = open;
    this.#max = max;
  }

  get size(): number {
    return this.#slots.size;
  }

  /** The content's descriptor, opened if needed. Throws EMFILE (retryable) when all are in use. */
  use(id: number): DescriptorUse {
    let slot = this.#slots.get(id);
    if (slot === undefined) {
      this.#makeRoom();
      slot = { owned: this.#open(id), users: 0 };
    }
    this.#slots.delete(id);
    this.#slots.set(id, slot);
    slot.users += 1;
    return useOf(slot);
  }

  /** Closes the content's descriptor; false when it is in use. */
  drop(id: number): boolean {
    const slot = this.#slots.get(id);
    if (slot === undefined) return true;
    if (slot.users > 0) return false;
    this.#slots.delete(id);
    slot.owned.close();
    return true;
  }

  /** Takes over the descriptor of a content that has none here yet; closed at once when there is no room. */
  adopt(id: number, owned: OwnedFd): void {
    assert(!this.#slots.has(id), `content ${id} has no descriptor yet`);
    try {
      this.#makeRoom();
    } catch {
      owned.close();
      return;
    }
    this.#slots.set(id, { owned, users: 0 });
  }

  /** Forgets the content's descriptor even when it is in use: its users go on with the old one. */
  detach(id: number): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    this.#slots.delete(id);
    if (slot.users === 0) slot.owned.close();
    else slot.users += detachedUsers;
  }

  [Symbol.dispose](): void {
    for (const id of this.#slots.keys()) this.detach(id);
  }

  #makeRoom(): void {
    if (this.#slots.size < this.#max) return;
    for (const [id, slot] of this.#slots) {
      if (slot.users === 0) {
        this.drop(id);
        return;
      }
    }
    throw ebbError('EMFILE', `All ${this.#max} descriptors of the cache are in use.`, {
      retryable: true,
    });
  }
}

/** Added to the users of a slot that left the cache: who brings the count back to this closes it. */
const detachedUsers = 2 ** 32;

function useOf(slot: Slot): DescriptorUse {
  let released = false;
  return {
    fd: slot.owned.fd,
    [Symbol.dispose]: () => {
      if (released) return;
      released = true;
      slot.users -= 1;
      if (slot.users === detachedUsers) slot.owned.close();
    },
  };
}
