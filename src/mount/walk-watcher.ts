/**
 * Notices programs that walk the tree (tar, cp -r, grep -r, find, ls -lR) and asks main for what they need next. Who
 * walks and what comes next is decided in src/recall/walk.ts.
 */
import type { Node } from '../catalog/catalog.ts';
import type { Requester } from '../recall/recall.ts';
import { WalkDetector } from '../recall/walk.ts';
import type { Ahead } from '../recall/tree-walk.ts';
import type { Bridge } from './bridge.ts';
import type { NodeView } from './node-view.ts';

export class WalkWatcher {
  readonly #bridge: Bridge;
  readonly #nowMs: () => number;
  readonly #detector: WalkDetector;

  constructor(view: NodeView, bridge: Bridge, nowMs: () => number) {
    this.#bridge = bridge;
    this.#nowMs = nowMs;
    this.#detector = new WalkDetector({
      node: (id) => view.node(id),
      children: (directoryId, afterId, limit) => view.reader.children(directoryId, afterId, limit),
      // Where listings are never trusted, none is worth fetching ahead but the first.
      needsListing: (directory) => directory.listedAtMs === 0 || view.isListingStale(directory),
    });
  }

  /** Whether the process reads the files that it looks up. */
  wantsContents(who: Requester): boolean {
    return this.#detector.wantsContents(who.pid);
  }

  /** Exact facts of a file are wanted that the listing did not tell. */
  looked(file: Node, who: Requester): void {
    this.#ask(this.#detector.looked(file, who, this.#nowMs()), who);
  }

  /** A file that is not all here is being opened, or one that was fetched ahead. */
  opened(file: Node, who: Requester): void {
    this.#ask(this.#detector.opened(file, who, this.#nowMs()), who);
  }

  /** A directory's listing is there and is about to be read. `waited`: the requester had to wait for it. */
  listed(directory: Node, who: Requester, waited: boolean): void {
    this.#ask(this.#detector.entered(directory, waited, who, this.#nowMs()), who);
  }

  /** The catalog has a new listing of the directory. */
  arrived(directoryId: number): void {
    for (const { who, ahead } of this.#detector.arrived(directoryId)) this.#ask(ahead, who);
  }

  #ask(ahead: Ahead, requester: Requester): void {
    const { directoryIds, factIds, contentIds } = ahead;
    if (directoryIds.length + factIds.length + contentIds.length === 0) return;
    this.#bridge.tell({ kind: 'prefetch', directoryIds, factIds, contentIds, requester });
  }
}
