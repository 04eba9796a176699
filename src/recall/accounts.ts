/** Who caused how much recall: the numbers behind `ebb top`. Bounded: the smallest account makes room. */
import type { Requester } from './recall.ts';

export interface RequesterAccount {
  readonly requester: Requester;
  /** Calls of `ensure` that had to wait for content. */
  readonly recalls: number;
  /** Bytes that arrived in flights made for this requester. */
  readonly bytes: number;
  /** What it asked for last. */
  readonly contentId: number;
  readonly key: string;
}

interface Account {
  requester: Requester;
  recalls: number;
  bytes: number;
  contentId: number;
  key: string;
}

/** Accounts by process id. A process id that comes back for another program continues the old account. */
export class Accounts {
  readonly #accountsMax: number;
  readonly #byPid: Map<number, Account> = new Map();

  constructor(accountsMax: number) {
    this.#accountsMax = accountsMax;
  }

  recall(requester: Requester, contentId: number, key: string): void {
    const account = this.#of(requester);
    account.recalls += 1;
    account.contentId = contentId;
    account.key = key;
  }

  arrived(requester: Requester, countBytes: number): void {
    this.#of(requester).bytes += countBytes;
  }

  /** Most bytes first. */
  list(): RequesterAccount[] {
    return [...this.#byPid.values()]
      .map((account) => ({ ...account }))
      .sort((a, b) => b.bytes - a.bytes);
  }

  #of(requester: Requester): Account {
    const known = this.#byPid.get(requester.pid);
    if (known !== undefined) return known;
    if (this.#byPid.size >= this.#accountsMax) this.#forgetSmallest();
    const account = { requester, recalls: 0, bytes: 0, contentId: 0, key: '' };
    this.#byPid.set(requester.pid, account);
    return account;
  }

  #forgetSmallest(): void {
    let smallest: Account | undefined;
    for (const account of this.#byPid.values()) {
      if (smallest === undefined || account.bytes < smallest.bytes) smallest = account;
    }
    if (smallest !== undefined) this.#byPid.delete(smallest.requester.pid);
  }
}
