/**
 * Brings what a tree walker will ask for next: listings of directories, facts and contents of small files. All of
 * it is a guess, so it is bounded, comes after every demand, and its failures are nobody's business: whoever
 * really needs the file asks again and hears the error.
 */
import { Semaphore } from '../../base/semaphore.ts';
import type { Catalog, Node } from '../../catalog/catalog.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import type { ToMain } from '../../mount/messages.ts';
import type { RecallEngine } from '../../recall/engine.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import { wholeFileMaxBytes } from '../../recall/namespace/prepare.ts';
import type { Prepared, Preparer } from '../../recall/namespace/prepare.ts';
import type { WholeFetch } from '../../recall/namespace/whole-fetch.ts';
import type { Requester, Reserve } from '../../recall/recall.ts';

/** Requests at the remote at one time that are left for what is not a guess. */
const keptForDemand = 2;
/** Guesses that wait; more are dropped, they were only guesses. */
const queuedMax = 4_096;

type PrefetchMessage = Extract<ToMain, { kind: 'prefetch' }>;

export interface PrefetcherOptions {
  readonly namespace: Namespace;
  readonly preparer: Preparer;
  readonly wholeFetch: WholeFetch;
  readonly recall: RecallEngine;
  readonly catalog: Catalog;
  /** Requests at the remote at one time, those for demand included. 1 <= requestsMax. */
  readonly requestsMax: number;
  readonly reserve: Reserve;
  /** Tells the front end that a content is ready before it asks. */
  readonly offer: (prepared: Prepared) => Promise<void>;
}

export class Prefetcher {
  readonly #options: PrefetcherOptions;
  readonly #slots: Semaphore;
  readonly #closing = new AbortController();
  /** By what they are for: what is queued or under way already is not begun again. */
  readonly #running = new Map<string, Promise<void>>();
  /** Of files that are being fetched whole. */
  #wholeBytes = 0;

  constructor(options: PrefetcherOptions) {
    this.#options = options;
    const permits = Math.max(1, options.requestsMax - keptForDemand);
    this.#slots = new Semaphore({ permits, waitersMax: queuedMax });
  }

  take(message: PrefetchMessage): void {
    for (const id of message.directoryIds) this.#run(`list ${id}`, () => this.#list(id));
    for (const id of message.factIds) this.#run(`facts ${id}`, () => this.#resolve(id));
    for (const id of message.contentIds) {
      this.#run(`content ${id}`, () => this.#fetch(id, message.requester));
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#running.values());
  }

  #run(purpose: string, work: () => Promise<void>): void {
    if (this.#running.size >= queuedMax || this.#running.has(purpose)) return;
    const running = this.#inSlot(work)
      .catch(() => undefined)
      .finally(() => this.#running.delete(purpose));
    this.#running.set(purpose, running);
  }

  async #inSlot(work: () => Promise<void>): Promise<void> {
    using _slot = await this.#slots.acquire({ signal: this.#closing.signal });
    await work();
  }

  async #list(directoryId: number): Promise<void> {
    const { namespace, catalog } = this.#options;
    const directory = catalog.node(directoryId);
    if (directory === undefined) return;
    await namespace.list(directoryId, this.#closing.signal);
  }

  async #resolve(nodeId: number): Promise<void> {
    const node = this.#file(nodeId);
    if (node === undefined || node.exact) return;
    await this.#options.preparer.resolve(nodeId, this.#closing.signal);
  }

  async #fetch(nodeId: number, requester: Requester): Promise<void> {
    const { preparer, recall, offer } = this.#options;
    const { signal } = this.#closing;
    let node = this.#file(nodeId);
    if (node === undefined || node.sizeBytes > wholeFileMaxBytes) return;
    if (node.version === null || !node.exact) {
      node = await this.#fetchWhole(node, requester);
    }
    const prepared = await preparer.open(node.id, signal, requester);
    const { file } = prepared;
    if (!file.residency.complete) {
      await recall.ensure(file, 0, file.sizeBytes, { intent: 'prefetch', requester, signal });
    }
    await offer(prepared);
  }

  /** One GET brings facts and content. Rejects with EAGAIN, before it, where there is no room for a guess. */
  async #fetchWhole(file: Node, requester: Requester): Promise<Node> {
    const { wholeFetch, reserve } = this.#options;
    const bytes = file.sizeBytes < 0 ? wholeFileMaxBytes : file.sizeBytes;
    this.#wholeBytes += bytes;
    try {
      await reserve(this.#wholeBytes, 'prefetch');
      return await wholeFetch.fetch(file.id, wholeFileMaxBytes, this.#closing.signal, requester);
    } finally {
      this.#wholeBytes -= bytes;
    }
  }

  #file(nodeId: number): Node | undefined {
    const node = this.#options.catalog.node(nodeId);
    return node?.kind === NodeKind.file && node.parentId !== 0 ? node : undefined;
  }
}
