/**
 * Which flight goes next. Pure: a queue with classes, fairness and a budget; no time, no I/O.
 *
 * Classes are served strictly in order (demand, read-ahead, get, prefetch). Within a class the requesters take
 * turns, so that one process with a thousand reads does not starve another with one. The last slots are kept for
 * demand: read-ahead and `get` leave `demandReservedRequests` free, prefetch leaves one more.
 */
import { assert } from '../base/assert.ts';
import { intentRank, intentsByRank } from './limits.ts';
import type { Intent } from './recall.ts';

export interface Ticket {
  /** May only be changed through `promote` while queued. */
  intent: Intent;
  readonly requester: { readonly pid: number };
  readonly lengthBytes: number;
}

export interface AdmissionLimits {
  readonly parallelRequestsMax: number;
  readonly demandReservedRequests: number;
  readonly bytesInFlightMax: number;
  readonly queuedFlightsMax: number;
}

/** Requesters in the order of their turns, each with its tickets in order of arrival. */
type Queue<T> = Map<number, Set<T>>;

/** Share of the queue that only demand may use, so that a big `get` cannot lock readers out of it. */
const demandQueueShare = 0.25;

export class Admission<T extends Ticket> {
  readonly #limits: AdmissionLimits;
  readonly #queues: readonly Queue<T>[] = intentsByRank.map(() => new Map());
  #size = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Queued tickets. */
  get size(): number {
    return this.#size;
  }

  /** How many more tickets of this intent the queue takes. */
  room(intent: Intent): number {
    const { queuedFlightsMax } = this.#limits;
    const share = intent === 'demand' ? 0 : Math.floor(queuedFlightsMax * demandQueueShare);
    return Math.max(0, queuedFlightsMax - share - this.#size);
  }

  /** Queues a ticket behind the others of its class and requester. The caller has asked `room`. */
  add(ticket: T): void {
    assert(this.#size < this.#limits.queuedFlightsMax, 'the admission queue keeps its maximum');
    const queue = this.#queueOf(ticket.intent);
    const own = queue.get(ticket.requester.pid);
    if (own === undefined) queue.set(ticket.requester.pid, new Set([ticket]));
    else own.add(ticket);
    this.#size += 1;
  }

  /** Takes a ticket out. False when it was not queued. */
  remove(ticket: T): boolean {
    const queue = this.#queueOf(ticket.intent);
    const own = queue.get(ticket.requester.pid);
    if (own === undefined || !own.delete(ticket)) return false;
    if (own.size === 0) queue.delete(ticket.requester.pid);
    this.#size -= 1;
    return true;
  }

  /** Moves a queued ticket to a better class; does nothing when it is in that class or a better one. */
  promote(ticket: T, intent: Intent): void {
    if (intentRank[intent] >= intentRank[ticket.intent]) return;
    const queued = this.remove(ticket);
    ticket.intent = intent;
    if (queued) this.add(ticket);
  }

  /**
   * Takes the ticket that may start now, or undefined: nothing queued, no slot for its class, no budget.
   * `activeRequests` and `activeBytes` are what is under way.
   */
  next(activeRequests: number, activeBytes: number): T | undefined {
    for (const intent of intentsByRank) {
      const queue = this.#queueOf(intent);
      if (queue.size === 0) continue;
      if (activeRequests >= this.slots(intent)) return undefined;
      const [pid, own] = queue.entries().next().value as [number, Set<T>];
      const [ticket] = own as Set<T> & [T];
      const budgetBytes = this.#limits.bytesInFlightMax - activeBytes;
      if (activeRequests > 0 && (ticket as T).lengthBytes > budgetBytes) return undefined;
      this.remove(ticket as T);
      // Its requester goes to the end of the line.
      if (queue.delete(pid)) queue.set(pid, own);
      return ticket as T;
    }
    return undefined;
  }

  /** How many requests may be under way for one more of this intent to start. */
  slots(intent: Intent): number {
    const { parallelRequestsMax, demandReservedRequests } = this.#limits;
    if (intent === 'demand') return parallelRequestsMax;
    const reserved = demandReservedRequests + (intent === 'prefetch' ? 1 : 0);
    return Math.max(1, parallelRequestsMax - reserved);
  }

  /** The ticket to give up when demand needs room: the newest of the worst class that `mayGo` accepts. */
  worst(mayGo: (ticket: T) => boolean): T | undefined {
    for (let rank = intentsByRank.length - 1; rank > 0; rank -= 1) {
      let found: T | undefined;
      for (const own of (this.#queues[rank] as Queue<T>).values()) {
        for (const ticket of own) if (mayGo(ticket)) found = ticket;
      }
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #queueOf(intent: Intent): Queue<T> {
    return this.#queues[intentRank[intent]] as Queue<T>;
  }
}
