/**
 * Tree walkers: programs that take one small thing after the other in the order of the listing (`tar`, `rsync`,
 * `grep -r`, `find`, `ls -lR`, a compiler over a directory). Each step costs them a round trip, so the next steps are
 * worth asking for ahead. Pure: steps and time in, advice out; whoever uses it fetches.
 *
 * Who walks is found out by steps in one directory (walk-steps.ts), or by entering a directory and then one in it. From
 * then on the process has a walk of its own through the tree (tree-walk.ts), and what is advised comes from there
 * alone: nothing is advised twice to one process. Builds, which start a process per file, are known by everybody's
 * steps together, and get advice for one directory at a time.
 */
import type { Node } from '../catalog/catalog.ts';
import { NodeKind } from '../catalog/catalog.ts';
import type { Requester } from './recall.ts';
import { TreeWalk, defaultTreeWalkLimits } from './tree-walk.ts';
import type { Ahead, TreeWalkLimits, WalkTree } from './tree-walk.ts';
import { StepDetector } from './walk-steps.ts';
import type { WalkAdvice, WalkKind } from './walk-steps.ts';

/** Files and directories of a listing may alternate, so the next of one sort may be a few ids away. */
const stepMax = 8;
const processesMax = 256;
/** A process that makes no step for so long proves itself again. */
const idleMaxMs = 10_000;
/** Directories remembered that a process has entered: those it may come back to. */
const enteredMax = 256;

const nothing: Ahead = Object.freeze({ directoryIds: [], factIds: [], contentIds: [] });

interface Process {
  readonly who: Requester;
  readonly entered: Set<number>;
  walk: TreeWalk | undefined;
  seenAtMs: number;
}

/** What `WalkDetector.arrived` has for one process. */
export interface AheadOf {
  readonly who: Requester;
  readonly ahead: Ahead;
}

export class WalkDetector {
  readonly #tree: WalkTree;
  readonly #limits: TreeWalkLimits;
  readonly #steps = new StepDetector({ stepMax });
  /** By process id, in the order of last use. */
  readonly #processes = new Map<number, Process>();

  constructor(tree: WalkTree, limits: TreeWalkLimits = defaultTreeWalkLimits) {
    this.#tree = tree;
    this.#limits = limits;
  }

  /** Whether the process reads the files that it comes to: their contents bring the facts along. */
  wantsContents(pid: number): boolean {
    return this.#processes.get(pid)?.walk?.wants === 'open';
  }

  /** A process enters a directory whose listing is there. `waited`: it had to wait for the remote's answer. */
  entered(directory: Node, waited: boolean, who: Requester, nowMs: number): Ahead {
    const process = this.#process(who, nowMs);
    const { entered } = process;
    const descends = entered.has(directory.parentId);
    if (entered.size >= enteredMax) forgetOldest(entered);
    entered.delete(directory.id);
    entered.add(directory.id);
    if (process.walk === undefined && descends && waited) {
      process.walk = new TreeWalk(this.#tree, 'list', this.#limits);
    }
    if (process.walk !== undefined) {
      return process.walk.entered(directory, (id) => entered.has(id));
    }
    return this.#follow(this.#observe('list', directory, who, nowMs));
  }

  /** Exact facts of a file are wanted that the listing did not tell. */
  looked(file: Node, who: Requester, nowMs: number): Ahead {
    return this.#came('lookup', file, who, nowMs);
  }

  /** A file is being opened that is not all here, or was fetched ahead. */
  opened(file: Node, who: Requester, nowMs: number): Ahead {
    return this.#came('open', file, who, nowMs);
  }

  /** A listing is there: what walks have been waiting for goes on. */
  arrived(directoryId: number): AheadOf[] {
    const all: AheadOf[] = [];
    for (const { who, walk } of this.#processes.values()) {
      const ahead = walk?.arrived(directoryId);
      if (ahead !== undefined) all.push({ who, ahead });
    }
    return all;
  }

  #came(kind: 'lookup' | 'open', file: Node, who: Requester, nowMs: number): Ahead {
    const process = this.#process(who, nowMs);
    const mayClimb = (id: number): boolean => process.entered.has(id);
    const { walk } = process;
    if (walk !== undefined && rank[walk.wants] >= rank[kind]) return walk.came(file, mayClimb);
    const advice = this.#observe(kind, file, who, nowMs);
    if (advice === undefined) return walk?.came(file, mayClimb) ?? nothing;
    if (!advice.isOwn) return this.#follow(advice);
    process.walk ??= new TreeWalk(this.#tree, kind, this.#limits);
    return process.walk.want(kind, file, mayClimb);
  }

  #observe(kind: WalkKind, node: Node, who: Requester, nowMs: number): WalkAdvice | undefined {
    return this.#steps.observe({
      kind,
      pid: who.pid,
      directoryId: node.parentId,
      ordinal: node.id,
      ...(node.sizeBytes >= 0 ? { sizeBytes: node.sizeBytes } : {}),
      nowMs,
    });
  }

  /** Node ids stand in for places in the listing: children get growing ids in its order. */
  #follow(advice: WalkAdvice | undefined): Ahead {
    if (advice === undefined) return nothing;
    const { kind, directoryId, firstOrdinal, count, fileMaxBytes } = advice;
    const next = this.#tree.children(directoryId, firstOrdinal - 1, count);
    const files = next.filter((node) => node.kind === NodeKind.file);
    const idsOf = (nodes: readonly Node[]): number[] => nodes.map((node) => node.id);
    if (kind === 'lookup') return { ...nothing, factIds: idsOf(files.filter((one) => !one.exact)) };
    if (kind === 'list') {
      const directories = next.filter((node) => node.kind === NodeKind.directory);
      const unlisted = directories.filter((node) => this.#tree.needsListing(node));
      return { ...nothing, directoryIds: idsOf(unlisted) };
    }
    let leftBytes = advice.totalMaxBytes;
    const small = files.filter(({ sizeBytes }) => {
      if (sizeBytes < 0 || sizeBytes > fileMaxBytes) return false;
      leftBytes -= sizeBytes;
      return leftBytes >= 0;
    });
    return { ...nothing, contentIds: idsOf(small) };
  }

  #process(who: Requester, nowMs: number): Process {
    let process = this.#processes.get(who.pid);
    this.#processes.delete(who.pid);
    if (process === undefined || nowMs - process.seenAtMs > idleMaxMs) {
      process = { who, entered: new Set(), walk: undefined, seenAtMs: nowMs };
      if (this.#processes.size >= processesMax) forgetOldest(this.#processes);
    }
    process.seenAtMs = nowMs;
    this.#processes.set(who.pid, process);
    return process;
  }
}

const rank: Readonly<Record<WalkKind, number>> = { list: 0, lookup: 1, open: 2 };

function forgetOldest(known: Map<number, unknown> | Set<number>): void {
  for (const oldest of known.keys()) {
    known.delete(oldest);
    return;
  }
}
