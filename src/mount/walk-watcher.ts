/**
 * Notices programs that walk the tree (tar, cp -r, grep -r, find, ls -lR) and asks for what they need next: facts
 * of the next siblings, contents of the next small files, listings of the next directories.
 *
 * Node ids stand in for places in the listing: children get consecutive ids in the order of the listing, which is
 * the order in which READDIR gives them out and in which walkers come by.
 */
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import { WalkDetector, defaultWalkLimits } from '../recall/walk.ts';
import type { WalkAdvice, WalkKind } from '../recall/walk.ts';
import type { Requester } from '../recall/recall.ts';
import type { Bridge } from './bridge.ts';
import type { NodeView } from './node-view.ts';

/** Files and directories of a listing may alternate, so the next of one sort may be a few ids away. */
const stepMax = 8;
/** A program that lists a directory and then one in it is descending. */
const descentIdleMaxMs = 10_000;
const walkIdleMaxMs = 10_000;
const listersMax = 256;
/** Subdirectories listed ahead of a program that descends. */
const descentAheadMax = 16;
/** Directories whose files are being opened in order, where contents bring the facts along. */
const readDirectoriesMax = 256;

interface Lister {
  readonly directoryIds: Set<number>;
  seenAtMs: number;
}

export class WalkWatcher {
  readonly #view: NodeView;
  readonly #bridge: Bridge;
  readonly #nowMs: () => number;
  readonly #detector = new WalkDetector({ stepMax });
  readonly #listers = new Map<number, Lister>();
  readonly #readDirectories = new Set<number>();
  /** By kind and process: where a program that was given advice walks now. */
  readonly #walkers = new Map<string, { directoryId: number; seenAtMs: number }>();

  constructor(view: NodeView, bridge: Bridge, nowMs: () => number) {
    this.#view = view;
    this.#bridge = bridge;
    this.#nowMs = nowMs;
  }

  /** Exact facts of a file are wanted that the listing did not tell. */
  looked(file: Node, who: Requester): void {
    if (this.#readDirectories.has(file.parentId)) return;
    this.#follow(this.#observe('lookup', file, who) ?? this.#atOnce('lookup', file, who), who);
  }

  /** A file that is not all here is being opened. */
  opened(file: Node, who: Requester): void {
    const advice = this.#observe('open', file, who) ?? this.#atOnce('open', file, who);
    if (advice === undefined) return;
    if (this.#readDirectories.size >= readDirectoriesMax) this.#readDirectories.clear();
    this.#readDirectories.add(file.parentId);
    this.#follow(advice, who);
  }

  /** A directory's listing is there and is about to be read. */
  listed(directory: Node, who: Requester): void {
    this.#follow(this.#observe('list', directory, who), who);
    if (this.#isDescending(directory, who)) {
      this.#ask({ directoryIds: this.#unlisted(directory.id, 0, descentAheadMax) }, who);
    }
  }

  /**
   * A program that walked the directory before will walk this one, too: with its first step in a new directory it
   * gets what others have to prove themselves for. Without this a tree of small directories is one proof after
   * the other.
   */
  #atOnce(kind: WalkKind, node: Node, who: Requester): WalkAdvice | undefined {
    const walker = this.#walkers.get(`${kind} ${who.pid}`);
    const nowMs = this.#nowMs();
    if (walker === undefined || nowMs - walker.seenAtMs > walkIdleMaxMs) return undefined;
    walker.seenAtMs = nowMs;
    if (walker.directoryId === node.parentId) return undefined;
    walker.directoryId = node.parentId;
    const { fileMaxBytes, totalMaxBytes, countMax } = defaultWalkLimits;
    if (node.sizeBytes > fileMaxBytes) return undefined;
    return {
      kind,
      directoryId: node.parentId,
      firstOrdinal: node.id + 1,
      count: countMax[kind],
      fileMaxBytes,
      totalMaxBytes,
    };
  }

  #remember(advice: WalkAdvice, who: Requester): void {
    if (this.#walkers.size >= listersMax) this.#walkers.clear();
    const { directoryId } = advice;
    this.#walkers.set(`${advice.kind} ${who.pid}`, { directoryId, seenAtMs: this.#nowMs() });
  }

  #observe(kind: WalkKind, node: Node, who: Requester): WalkAdvice | undefined {
    return this.#detector.observe({
      kind,
      pid: who.pid,
      directoryId: node.parentId,
      ordinal: node.id,
      ...(node.sizeBytes >= 0 ? { sizeBytes: node.sizeBytes } : {}),
      nowMs: this.#nowMs(),
    });
  }

  #follow(advice: WalkAdvice | undefined, who: Requester): void {
    if (advice === undefined) return;
    this.#remember(advice, who);
    const { directoryId, firstOrdinal, count } = advice;
    if (advice.kind === 'list') {
      this.#ask({ directoryIds: this.#unlisted(directoryId, firstOrdinal - 1, count) }, who);
      return;
    }
    const next = this.#view.reader.children(directoryId, firstOrdinal - 1, count);
    const files = next.filter((node) => node.kind === NodeKind.file);
    if (advice.kind === 'lookup') {
      this.#ask({ factIds: files.filter((node) => !node.exact).map((node) => node.id) }, who);
      return;
    }
    let totalBytes = 0;
    const contentIds: number[] = [];
    for (const file of files) {
      if (file.sizeBytes < 0 || file.sizeBytes > advice.fileMaxBytes) continue;
      totalBytes += file.sizeBytes;
      if (totalBytes > advice.totalMaxBytes) break;
      contentIds.push(file.id);
    }
    this.#ask({ contentIds }, who);
  }

  #unlisted(directoryId: number, afterId: number, count: number): number[] {
    return this.#view.reader
      .children(directoryId, afterId, count)
      .filter((node) => node.kind === NodeKind.directory && node.listedAtMs === 0)
      .map((node) => node.id);
  }

  #isDescending(directory: Node, who: Requester): boolean {
    const nowMs = this.#nowMs();
    let lister = this.#listers.get(who.pid);
    if (lister === undefined || nowMs - lister.seenAtMs > descentIdleMaxMs) {
      if (this.#listers.size >= listersMax) this.#listers.clear();
      lister = { directoryIds: new Set(), seenAtMs: nowMs };
      this.#listers.set(who.pid, lister);
    }
    lister.seenAtMs = nowMs;
    const descending = lister.directoryIds.has(directory.parentId);
    if (lister.directoryIds.size >= readDirectoriesMax) lister.directoryIds.clear();
    lister.directoryIds.add(directory.id);
    return descending;
  }

  #ask(
    wanted: { directoryIds?: number[]; factIds?: number[]; contentIds?: number[] },
    requester: Requester,
  ): void {
    const { directoryIds = [], factIds = [], contentIds = [] } = wanted;
    if (directoryIds.length + factIds.length + contentIds.length === 0) return;
    this.#bridge.tell({ kind: 'prefetch', directoryIds, factIds, contentIds, requester });
  }
}
