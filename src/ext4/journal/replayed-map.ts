/** The block map of a file while fast commits are replayed: a list that ranges are put into, and a new tree of it. */
import type { Extent } from '../contract.ts';
import { entrySize, extentMagic, headerSize, initializedLengthMax } from '../extents.ts';
import { viewOf } from '../region.ts';
import { sealExtents } from '../seal.ts';
import type { Superblock } from '../superblock.ts';
import type { WorkBudget } from './work-budget.ts';

/** Entries in the root of a tree, in the inode itself. */
const rootEntriesMax = 4;

/** One entry of the list costs what moving so many costs. */
const unitsPerExtent = 100;

export class ReplayedMap {
  /** Rising, none overlaps. */
  readonly #extents: Extent[] = [];
  readonly #budget: WorkBudget;

  constructor(budget: WorkBudget, extents: Iterable<Extent>) {
    this.#budget = budget;
    for (const extent of extents) {
      budget.spend(unitsPerExtent);
      this.#extents.push(extent);
    }
  }

  get extents(): readonly Extent[] {
    return this.#extents;
  }

  /** Makes a hole of the range. */
  remove(logicalBlock: number, blockCount: number): void {
    this.#replace(logicalBlock, blockCount, []);
  }

  /** Whatever was there before, the range is mapped so. */
  set(extent: Extent): void {
    this.#replace(extent.logicalBlock, extent.blockCount, [extent]);
  }

  #replace(start: number, blockCount: number, by: readonly Extent[]): void {
    const end = start + blockCount;
    const from = this.#firstEndingAfter(start);
    const pieces: Extent[] = [];
    const behind: Extent[] = [];
    let to = from;
    for (let extent = this.#extents[to]; extent !== undefined; extent = this.#extents[to]) {
      if (extent.logicalBlock >= end) break;
      if (extent.logicalBlock < start) pieces.push(part(extent, extent.logicalBlock, start));
      const extentEnd = extent.logicalBlock + extent.blockCount;
      if (extentEnd > end) behind.push(part(extent, end, extentEnd));
      to += 1;
    }
    this.#budget.spend(this.#extents.length - from + unitsPerExtent);
    this.#extents.splice(from, to - from, ...pieces, ...by, ...behind);
  }

  #firstEndingAfter(block: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { logicalBlock, blockCount } = this.#extents[middle]!;
      if (logicalBlock + blockCount <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** As few extents as there can be: those that go on in each other are one, up to what one can hold. */
  #entries(): Entry[] {
    const entries: Entry[] = [];
    let last: Extent | undefined;
    for (const extent of this.#extents) {
      const max = extent.unwritten ? initializedLengthMax - 1 : initializedLengthMax;
      let at = extent.logicalBlock;
      const end = at + extent.blockCount;
      if (last !== undefined && isContinued(last, extent)) {
        const take = Math.min(max - last.blockCount, end - at);
        last = { ...last, blockCount: last.blockCount + take };
        entries[entries.length - 1] = entryOf(last);
        at += take;
      }
      while (at < end) {
        last = part(extent, at, Math.min(end, at + max));
        entries.push(entryOf(last));
        at += last.blockCount;
      }
    }
    return entries;
  }

  /**
   * Writes the map as a tree: its root into `root` (i_block of the inode), nodes below into blocks that `allocate`
   * gives and `bytesOf` makes writable.
   */
  write(
    superblock: Superblock,
    inodeSeed: number,
    root: Uint8Array,
    allocate: () => number,
    bytesOf: (block: number) => Uint8Array,
  ): void {
    const perNode = Math.floor((superblock.blockSizeBytes - headerSize) / entrySize);
    let entries = this.#entries();
    let depth = 0;
    for (; entries.length > rootEntriesMax; depth += 1) {
      const above: Entry[] = [];
      for (let at = 0; at < entries.length; at += perNode) {
        const block = allocate();
        const bytes = bytesOf(block);
        const ofNode = entries.slice(at, at + perNode);
        writeNode(bytes, ofNode, perNode, depth);
        sealExtents(superblock, inodeSeed, bytes);
        above.push({ logicalBlock: ofNode[0]!.logicalBlock, physicalBlock: block, length: 0 });
      }
      entries = above;
    }
    writeNode(root, entries, rootEntriesMax, depth);
  }
}

/** As stored: of a leaf with a length, of a node above without. */
interface Entry {
  readonly logicalBlock: number;
  readonly physicalBlock: number;
  readonly length: number;
}

function entryOf({ logicalBlock, physicalBlock, blockCount, unwritten }: Extent): Entry {
  return {
    logicalBlock,
    physicalBlock,
    length: unwritten ? blockCount + initializedLengthMax : blockCount,
  };
}

function part(extent: Extent, from: number, to: number): Extent {
  const skipped = from - extent.logicalBlock;
  return {
    ...extent,
    logicalBlock: from,
    physicalBlock: extent.physicalBlock + skipped,
    blockCount: to - from,
  };
}

function isContinued(one: Extent, next: Extent): boolean {
  return (
    one.logicalBlock + one.blockCount === next.logicalBlock &&
    one.physicalBlock + one.blockCount === next.physicalBlock &&
    one.unwritten === next.unwritten
  );
}

function writeNode(bytes: Uint8Array, entries: readonly Entry[], max: number, depth: number): void {
  bytes.fill(0);
  const view = viewOf(bytes);
  view.setUint16(0, extentMagic, true);
  view.setUint16(2, entries.length, true);
  view.setUint16(4, max, true);
  view.setUint16(6, depth, true);
  let at = headerSize;
  for (const { logicalBlock, physicalBlock, length } of entries) {
    const low = physicalBlock % 2 ** 32;
    const high = Math.floor(physicalBlock / 2 ** 32);
    view.setUint32(at, logicalBlock, true);
    if (depth === 0) {
      view.setUint16(at + 4, length, true);
      view.setUint16(at + 6, high, true);
      view.setUint32(at + 8, low, true);
    } else {
      view.setUint32(at + 4, low, true);
      view.setUint16(at + 8, high, true);
    }
    at += entrySize;
  }
}
