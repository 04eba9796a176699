/** statfs(2) of an image, as the kernel's ext4_statfs would answer. */
import type { FilesystemStatistics } from './contract.ts';
import type { GroupTable } from './groups.ts';
import { hasBackup } from './superblock.ts';
import type { Superblock } from './superblock.ts';

const nameMaxBytes = 255;

/** Reads all group descriptors: their counts are right when those of the superblock are not. */
export function statistics(superblock: Superblock, groups: GroupTable): FilesystemStatistics {
  const { blockSizeBytes, blockCount, clusterSizeBytes, groupCount, inodeCount, uuid } = superblock;
  const blocksPerCluster = clusterSizeBytes / blockSizeBytes;
  let freeClusters = 0;
  let freeInodes = 0;
  for (let group = 0; group < groupCount; group += 1) {
    const descriptor = groups.descriptor(group);
    freeClusters += descriptor.freeClusters;
    freeInodes += descriptor.freeInodes;
  }
  const overhead = overheadBlocks(superblock, groups);
  const blocks = Math.max(blockCount - overhead, 0);
  const freeBlocks = Math.min(freeClusters * blocksPerCluster, blocks);
  const words = new DataView(uuid.buffer, uuid.byteOffset, 16);
  return {
    blockSizeBytes,
    blocks,
    freeBlocks,
    availableBlocks: Math.max(
      freeBlocks - superblock.reservedBlocks - kernelReserve(superblock),
      0,
    ),
    inodes: inodeCount,
    freeInodes: Math.min(freeInodes, inodeCount),
    nameMaxBytes,
    fsid: [
      words.getUint32(0, true) ^ words.getUint32(8, true),
      words.getUint32(4, true) ^ words.getUint32(12, true),
    ].map((word) => word >>> 0) as [number, number],
  };
}

/** What a kernel keeps for splitting extents (ext4_calculate_resv_clusters): a fiftieth, at most 4096 clusters. */
function kernelReserve({
  features,
  blockCount,
  clusterSizeBytes,
  blockSizeBytes,
}: Superblock): number {
  if (!features.names.has('extent')) return 0;
  const blocksPerCluster = clusterSizeBytes / blockSizeBytes;
  return Math.min(Math.floor(blockCount / blocksPerCluster / 50), 4096) * blocksPerCluster;
}

/** Blocks that can never hold content; the superblock usually says (ext4_calculate_overhead). */
function overheadBlocks(superblock: Superblock, groups: GroupTable): number {
  const { overheadClusters, clusterSizeBytes, blockSizeBytes, groupCount } = superblock;
  if (overheadClusters > 0) return overheadClusters * (clusterSizeBytes / blockSizeBytes);
  let blocks = superblock.firstDataBlock + groupCount * (groups.inodeTableBlocks + 2);
  for (let group = 0; group < groupCount; group += 1) {
    if (hasBackup(superblock, group)) blocks += 1 + groups.tableBlocks;
  }
  return blocks;
}
