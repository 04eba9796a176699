/** What the recall engine has to tell: `top`, its metrics, and a content's ranges. The same for mounts and trees. */
import { readFileSync } from 'node:fs';
import { BoundedMap } from '../../base/bounded-map.ts';
import type { Clock } from '../../base/clock.ts';
import { decodeName } from '../../base/name.ts';
import type { RecallEngine } from '../../recall/engine.ts';
import type { Requester } from '../../recall/recall.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { Top } from '../api.ts';
import { counter, gauge } from './open-metrics.ts';
import type { MetricFamily } from './open-metrics.ts';

const rateWindowMs = 1_000;
const rangesShownMax = 16;
/** As many as there are accounts (recall/limits.ts `requestersMax`). */
const namesMax = 1_024;
/** Looking one up takes about 10 µs: of programs that begin by the thousand, as in a build, not all are named. */
const namesPerWindowMax = 100;

/**
 * The name of a process; undefined when it has ended. Not its command line: to read that can wait for a lock that the
 * process holds while it waits for us (base/mount-holders.ts).
 */
function commandOf(pid: number): string | undefined {
  // What ebb get and the like ask for.
  if (pid === process.pid) return 'ebb';
  try {
    return decodeName(readFileSync(`/proc/${pid}/comm`)).trimEnd();
  } catch {
    return undefined;
  }
}

/** `3 range(s): 0-262143, ...`; `no ranges` for what is not here at all. */
export function rangesText(file: ContentFile | undefined): string {
  const runs = file?.residency.runs() ?? [];
  if (file === undefined || runs.length === 0) return 'no ranges';
  const shown = runs.slice(0, rangesShownMax).map((run) => {
    const { offsetBytes, lengthBytes } = file.residency.bytesOf(run);
    return `${offsetBytes}-${offsetBytes + lengthBytes - 1}`;
  });
  const more = runs.length > shown.length ? ` and ${runs.length - shown.length} more` : '';
  return `${runs.length} range(s): ${shown.join(', ')}${more}`;
}

type Viewed = Pick<RecallEngine, 'totals' | 'flights' | 'requesters'>;

export class RecallViews {
  readonly #recall: Viewed;
  readonly #clock: Clock;
  readonly #otherBytes: () => number;
  #rate = { atMs: 0, bytes: 0, perSecond: 0 };
  /** Of those that may have ended by the time somebody asks. */
  readonly #names = new BoundedMap<number, string>(namesMax);
  #naming = { atMs: 0, count: 0 };

  /** `otherBytes`: what came from the remote outside of the engine, since the start. */
  constructor(recall: Viewed, clock: Clock, otherBytes: () => number = () => 0) {
    this.#recall = recall;
    this.#clock = clock;
    this.#otherBytes = otherBytes;
  }

  /** While it waits for what it asked for: short readers have ended before anybody looks. */
  began({ pid }: Requester): void {
    if (pid === 0 || this.#names.has(pid)) return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#naming.atMs >= rateWindowMs) this.#naming = { atMs: nowMs, count: 0 };
    if (this.#naming.count >= namesPerWindowMax) return;
    this.#naming.count += 1;
    const name = commandOf(pid);
    if (name !== undefined) this.#names.set(pid, name);
  }

  #nameOf({ pid }: Requester): string {
    return commandOf(pid) ?? this.#names.get(pid) ?? '[gone]';
  }

  /** Since the start. */
  recalledBytes(): number {
    return this.#recall.totals().recalledBytes + this.#otherBytes();
  }

  top(): Top {
    const nowMs = this.#clock.nowMs();
    const bytes = this.recalledBytes();
    if (nowMs - this.#rate.atMs >= rateWindowMs) {
      const seconds = (nowMs - this.#rate.atMs) / rateWindowMs;
      const perSecond = this.#rate.atMs === 0 ? 0 : (bytes - this.#rate.bytes) / seconds;
      this.#rate = { atMs: nowMs, bytes, perSecond };
    }
    return {
      nowMs,
      live: this.#recall.flights().map((flight) => ({
        pid: flight.requester.pid,
        command: this.#nameOf(flight.requester),
        uid: flight.requester.uid,
        recalls: 1,
        bytes: flight.lengthBytes,
        path: flight.key,
        offsetBytes: flight.offsetBytes,
        lengthBytes: flight.lengthBytes,
        doneBytes: flight.doneBytes,
        ageMs: nowMs - flight.startedAtMs,
      })),
      requesters: this.#recall.requesters().map(({ requester, recalls, bytes: account }) => ({
        pid: requester.pid,
        command: this.#nameOf(requester),
        uid: requester.uid,
        recalls,
        bytes: account,
      })),
      bytesPerSecond: this.#rate.perSecond,
    };
  }

  metrics(): MetricFamily[] {
    const totals = this.#recall.totals();
    return [
      gauge('ebb_recalls_in_flight', 'Requests to the remote under way.', totals.inFlight),
      gauge('ebb_recall_waiters', 'Reads waiting for content.', totals.waiting),
      counter('ebb_recalled_bytes', 'Bytes brought here.', this.recalledBytes()),
      counter('ebb_recall_requests', 'Requests made to recall content.', totals.requests),
      counter('ebb_recall_failures', 'Recalls that failed.', totals.failures),
    ];
  }
}
