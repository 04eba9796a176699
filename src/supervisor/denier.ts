/**
 * Answers events while no daemon does: who needs a stub gets EIO, everything else goes on. Reads the groups from a
 * timer, so it is slow and has no thread that could hang; it never runs beside a daemon (answers are matched by
 * descriptor number alone, and two processes use the same numbers).
 */
import { toEbbError } from '../base/errors.ts';
import { isMarkOfAnother, treeMarkName } from '../base/tree-mark.ts';
import { EventReader } from '../fanotify/event-reader.ts';
import type { IncomingEvent } from '../fanotify/event-reader.ts';
import type { Group } from '../fanotify/group.ts';
import { getXattr } from '../sys/xattr.ts';

/** A reader waits at most about this long for his denial. */
const intervalMs = 20;
/** Reads of one group in one go: others of this process get their turn. */
const readsPerTurnMax = 64;

export class Denier {
  readonly #readers: readonly EventReader[];
  readonly #treeId: string | undefined;
  readonly #onProblem: (message: string) => void;
  #timer: NodeJS.Timeout | undefined;
  #denied = 0;

  /** `groups`: those whose requesters wait. `treeId`: whose stubs are denied; undefined: those of all trees. */
  constructor(
    groups: readonly Group[],
    treeId: string | undefined,
    onProblem: (message: string) => void,
  ) {
    this.#treeId = treeId;
    this.#onProblem = onProblem;
    this.#readers = groups.map(
      (group) => new EventReader(group, (trouble) => onProblem(trouble.message)),
    );
  }

  /** Calls that failed, since the start. */
  get denied(): number {
    return this.#denied;
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.turn(), intervalMs);
    this.turn();
  }

  /** When it returns, nothing that was read is unanswered. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Answers what is queued now. */
  turn(): void {
    for (const reader of this.#readers) {
      try {
        for (let reads = 0; reads < readsPerTurnMax && reader.fill() > 0; reads += 1) {
          reader.handleAll(
            (event) => this.#answer(event),
            () => undefined,
          );
        }
      } catch (error) {
        this.#onProblem(`events cannot be read: ${toEbbError(error).message}`);
      }
    }
  }

  #answer(event: IncomingEvent): void {
    if (!event.needsAnswer) return;
    if (isStub(event.fd, this.#treeId)) {
      this.#denied += 1;
      event.deny('EIO');
    } else {
      event.allow();
    }
  }
}

/** Whatever cannot be told apart from a stub of the tree is one. */
function isStub(fd: number, treeId: string | undefined): boolean {
  try {
    const mark = getXattr(fd, treeMarkName);
    return mark !== undefined && (treeId === undefined || !isMarkOfAnother(mark, treeId));
  } catch {
    return true;
  }
}
