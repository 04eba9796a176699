/** statfs(2) of an image, as the kernel's ext4_statfs would answer. */
import type { FilesystemStatistics } from './contract.ts';
import type { GroupTable } from './groups.ts';
import type { Superblock } from './superblock.ts';

const nameMaxBytes = 255;

/**
 * Reads all group descriptors: their counts are right when those of the superblock are not. `journalBlocks`: of the
 * journal that is in the file system.
 */
export function statistics(
  superblock: Superblock,
  groups: GroupTable,
  journalBlocks: number,
): FilesystemStatistics {
  const { blockSizeBytes, blockCount, clusterSizeBytes, groupCount, inodeCount, uuid } = superblock;
  const blocksPerCluster = clusterSizeBytes / blockSizeBytes;
  let freeClusters = 0;
  let freeInodes = 0;
  for (let group = 0; group < groupCount; group += 1) {
    const descriptor = groups.descriptor(group);
    freeClusters += descriptor.freeClusters;
    freeInodes += descriptor.freeInodes;
  }
  const overhead = overheadBlocks(superblock, groups, journalBlocks);
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

/**
 * Blocks that can never hold content (ext4_calculate_overhead). The superblock says, too, but that may be older than
 * the journal or the last resize: like the kernel we believe it where clusters make counting hard.
 */
function overheadBlocks(superblock: Superblock, groups: GroupTable, journalBlocks: number): number {
  const { overheadClusters, clusterSizeBytes, blockSizeBytes, groupCount } = superblock;
  if (clusterSizeBytes > blockSizeBytes && overheadClusters > 0) {
    return overheadClusters * (clusterSizeBytes / blockSizeBytes);
  }
  let blocks = superblock.firstDataBlock + groupCount * (groups.inodeTableBlocks + 2);
  for (let group = 0; group < groupCount; group += 1) blocks += groups.headBlocks(group);
  return blocks + journalBlocks;
}
