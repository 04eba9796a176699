/** Counts in group descriptors, after a replay of fast commits. */
import type { Parts } from '../parts.ts';
import { wideDescriptorSize } from '../groups.ts';
import { viewOf } from '../region.ts';
import { sealDescriptor } from '../seal.ts';
import type { ReplayOverlay } from './overlay.ts';

export interface Freed {
  /** Negative: less is free. */
  readonly clusters: number;
  readonly inodes: number;
  /** Inodes that are in use now. */
  readonly used: readonly number[];
}

/**
 * Changes the group descriptors. What is free goes to the first of them that can take it: their sum is what statfs(2)
 * tells, and which group something is free in nobody asks a reader.
 */
export function adjustCounts(overlay: ReplayOverlay, { image, groups }: Parts, freed: Freed): void {
  const { superblock } = image;
  const { blocksPerGroup, blockSizeBytes, clusterSizeBytes, inodesPerGroup } = superblock;
  const clustersPerGroup = (blocksPerGroup * blockSizeBytes) / clusterSizeBytes;
  /** By group: how many inodes from its first one on have been in use. */
  const inUse = new Map<number, number>();
  for (const number of freed.used) {
    const group = Math.floor((number - 1) / inodesPerGroup);
    inUse.set(group, Math.max(inUse.get(group) ?? 0, ((number - 1) % inodesPerGroup) + 1));
  }
  let { clusters, inodes } = freed;
  for (let group = 0; group < superblock.groupCount; group += 1) {
    if (clusters === 0 && inodes === 0 && inUse.size === 0) return;
    const { freeClusters, freeInodes, neverUsedInodes } = groups.descriptor(group);
    const newClusters = clamp(freeClusters + clusters, clustersPerGroup);
    const newInodes = clamp(freeInodes + inodes, inodesPerGroup);
    const newUnused = Math.min(neverUsedInodes, inodesPerGroup - (inUse.get(group) ?? 0));
    inUse.delete(group);
    clusters -= newClusters - freeClusters;
    inodes -= newInodes - freeInodes;
    if (newClusters === freeClusters && newInodes === freeInodes && newUnused === neverUsedInodes) {
      continue;
    }
    const { blockNumber, offset } = groups.place(group);
    const size = superblock.descriptorSizeBytes;
    const bytes = overlay.patch(blockNumber).subarray(offset, offset + size);
    const view = viewOf(bytes);
    const set = (low: number, high: number, value: number): void => {
      view.setUint16(low, value & 0xffff, true);
      if (size >= wideDescriptorSize) view.setUint16(high, value >>> 16, true);
    };
    set(0xc, 0x2c, newClusters);
    set(0xe, 0x2e, newInodes);
    if (newUnused !== neverUsedInodes) set(0x1c, 0x32, newUnused);
    sealDescriptor(superblock, group, bytes);
  }
}

function clamp(count: number, max: number): number {
  return Math.min(Math.max(count, 0), max);
}
