/**
 * The superblock: where everything is. Every field that is used is checked here, against the size of
 * the device in the first place, so that the rest of the reader may divide and multiply by them.
 * Offsets are those of struct ext4_super_block (Documentation/filesystems/ext4/super.rst).
 */
import { crc32c } from './checksum.ts';
import { corrupt, unsupported } from './errors.ts';
import { decodeFeatures } from './features.ts';
import type { Features } from './features.ts';
import { Region } from './region.ts';

export const superblockOffsetBytes = 1024;
export const superblockSizeBytes = 1024;

const magic = 0xef53;
const metadataChecksumBit = 0x400;
const creatorLinux = 0;
/** EXT2_FLAGS_SIGNED_HASH, EXT2_FLAGS_UNSIGNED_HASH */
const hashFlag = { signed: 1, unsigned: 2 } as const;
const logBlockSizeMax = 6;
const logClusterSizeMax = 20;
const inodesMax = 2 ** 32 - 1;
/** 128 TiB of 4 KiB blocks. What is the file system's own is kept in memory, group by group. */
const groupsMax = 1024 * 1024;

export interface Superblock {
  readonly blockSizeBytes: number;
  readonly blockCount: number;
  readonly inodeCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly groupCount: number;
  readonly inodeSizeBytes: number;
  readonly firstInode: number;
  readonly clusterSizeBytes: number;
  readonly descriptorSizeBytes: number;
  readonly reservedDescriptorBlocks: number;
  /** Descriptor blocks from this one on are in their meta groups; 0 without meta_bg. */
  readonly firstMetaGroup: number;
  /** Groups with backups under sparse_super2; 0 is none. */
  readonly backupGroups: readonly [number, number];
  /** Group of which this copy is a part; 0 is the primary. */
  readonly groupOfCopy: number;
  readonly features: Features;
  readonly uuid: Uint8Array;
  readonly label: Uint8Array;
  readonly state: number;
  /** Inodes have no checksums where another system made the file system (ext4_inode_csum_verify). */
  readonly hasInodeChecksums: boolean;
  readonly reservedBlocks: number;
  readonly overheadClusters: number;
  readonly journalInode: number;
  readonly checksumSeed: number;
  readonly hashSeed: readonly [number, number, number, number];
  /** Of directories that do not say themselves. */
  readonly hashVersion: number;
  /** Names in directory hashes are bytes 0 to 255, not -128 to 127. */
  readonly hashUnsigned: boolean;
  /** It does not say which of both: an old file system, that nobody has written to since kernels note it. */
  readonly hashSignUnknown: boolean;
}

/**
 * Decodes and checks one copy. Throws EUCLEAN when it cannot be right for a device of that size,
 * EOPNOTSUPP for features that cannot be read.
 */
export function decodeSuperblock(
  bytes: Uint8Array,
  deviceSizeBytes: number,
  verifyChecksum: boolean,
): Superblock {
  const raw = new Region(bytes, 'the superblock');
  if (raw.u16(0x38) !== magic) throw corrupt('there is no superblock of ext2, ext3 or ext4');
  // First of all: a feature that is not one must not be believed.
  const hasChecksum = (raw.u32(0x64) & metadataChecksumBit) !== 0;
  if (hasChecksum && verifyChecksum) {
    if (raw.u8(0x175) !== 1) throw corrupt('the checksum type of the superblock is unknown');
    if (crc32c(0xffffffff, bytes, 0, 1020) !== raw.u32(1020)) {
      throw corrupt('the checksum of the superblock is wrong');
    }
  }
  // Of revision 0, too, as the kernel: there were versions that set features and left the revision.
  const features = decodeFeatures(raw.u32(0x5c), raw.u32(0x60), raw.u32(0x64));
  const has = (name: string): boolean => features.names.has(name);
  const uuid = raw.slice(0x68, 16).slice();
  return {
    ...decodeGeometry(raw, features, deviceSizeBytes),
    groupOfCopy: raw.u16(0x5a),
    features,
    uuid,
    label: raw.slice(0x78, 16).slice(),
    state: raw.u16(0x3a),
    hasInodeChecksums: hasChecksum && raw.u32(0x48) === creatorLinux,
    overheadClusters: raw.u32(0x248),
    journalInode:
      has('has_journal') && raw.slice(0xd0, 16).every((byte) => byte === 0) ? raw.u32(0xe0) : 0,
    checksumSeed: has('metadata_csum_seed') ? raw.u32(0x270) : crc32c(0xffffffff, uuid, 0, 16),
    hashSeed: [raw.u32(0xec), raw.u32(0xf0), raw.u32(0xf4), raw.u32(0xf8)],
    hashVersion: raw.u8(0xfc),
    hashUnsigned: (raw.u32(0x160) & hashFlag.unsigned) !== 0,
    hashSignUnknown: (raw.u32(0x160) & (hashFlag.signed | hashFlag.unsigned)) === 0,
  };
}

type Geometry = Omit<
  Superblock,
  | 'groupOfCopy'
  | 'features'
  | 'uuid'
  | 'label'
  | 'state'
  | 'hasInodeChecksums'
  | 'overheadClusters'
  | 'journalInode'
  | 'checksumSeed'
  | 'hashSeed'
  | 'hashVersion'
  | 'hashUnsigned'
  | 'hashSignUnknown'
>;

function decodeGeometry(raw: Region, features: Features, deviceSizeBytes: number): Geometry {
  const has = (name: string): boolean => features.names.has(name);
  const must = (condition: boolean, what: string): void => {
    if (!condition) throw corrupt(`the superblock says ${what}`);
  };
  const logBlockSize = raw.u32(0x18);
  must(logBlockSize <= logBlockSizeMax, `that blocks have 2^${logBlockSize} KiB`);
  const blockSizeBytes = 1024 * 2 ** logBlockSize;

  const logClusterSize = has('bigalloc') ? raw.u32(0x1c) : logBlockSize;
  must(
    logClusterSize >= logBlockSize && logClusterSize <= logClusterSizeMax,
    `that clusters have 2^${logClusterSize} KiB`,
  );
  const clusterSizeBytes = 1024 * 2 ** logClusterSize;
  const blocksPerCluster = clusterSizeBytes / blockSizeBytes;

  const blockCount = raw.split(0x4, has('64bit') ? raw.u32(0x150) : 0);
  const firstDataBlock = raw.u32(0x14);
  must(
    firstDataBlock === (blockSizeBytes === 1024 && blocksPerCluster === 1 ? 1 : 0),
    `that the first block is ${firstDataBlock}`,
  );
  must(
    blockCount > firstDataBlock && blockCount <= deviceSizeBytes / blockSizeBytes,
    `that there are ${blockCount} blocks of ${blockSizeBytes} bytes, in an image of ${deviceSizeBytes} bytes`,
  );

  const blocksPerGroup = raw.u32(0x20);
  must(
    blocksPerGroup >= 8 && blocksPerGroup <= 8 * blockSizeBytes * blocksPerCluster,
    `that groups have ${blocksPerGroup} blocks`,
  );
  must(blocksPerGroup % blocksPerCluster === 0, 'that groups end inside of clusters');
  const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup);
  if (groupCount > groupsMax) throw unsupported(`The image has ${groupCount} groups of blocks`);

  const inodeSizeBytes = raw.u32(0x4c) >= 1 ? raw.u16(0x58) : 128;
  must(
    inodeSizeBytes >= 128 &&
      inodeSizeBytes <= blockSizeBytes &&
      (inodeSizeBytes & (inodeSizeBytes - 1)) === 0,
    `that inodes have ${inodeSizeBytes} bytes`,
  );
  const inodesPerGroup = raw.u32(0x28);
  must(
    inodesPerGroup >= blockSizeBytes / inodeSizeBytes && inodesPerGroup <= 8 * blockSizeBytes,
    `that groups have ${inodesPerGroup} inodes`,
  );
  const inodeCount = raw.u32(0x0);
  must(
    inodeCount === Math.min(groupCount * inodesPerGroup, inodesMax),
    `that there are ${inodeCount} inodes in ${groupCount} groups of ${inodesPerGroup}`,
  );
  const firstInode = raw.u32(0x4c) >= 1 ? raw.u32(0x54) : 11;
  must(firstInode >= 11 && firstInode <= inodeCount, `that the first inode is ${firstInode}`);

  const descriptorSizeBytes = has('64bit') ? raw.u16(0xfe) : 32;
  must(
    descriptorSizeBytes === 32 ||
      (descriptorSizeBytes >= 64 &&
        descriptorSizeBytes <= 1024 &&
        (descriptorSizeBytes & (descriptorSizeBytes - 1)) === 0),
    `that group descriptors have ${descriptorSizeBytes} bytes`,
  );
  return {
    blockSizeBytes,
    blockCount,
    inodeCount,
    firstDataBlock,
    blocksPerGroup,
    inodesPerGroup,
    groupCount,
    inodeSizeBytes,
    firstInode,
    clusterSizeBytes,
    descriptorSizeBytes,
    reservedDescriptorBlocks: has('resize_inode') ? raw.u16(0xce) : 0,
    firstMetaGroup: has('meta_bg') ? raw.u32(0x104) : 0,
    backupGroups: has('sparse_super2') ? [raw.u32(0x24c), raw.u32(0x250)] : [0, 0],
    reservedBlocks: raw.split(0x8, has('64bit') ? raw.u32(0x154) : 0),
  };
}

/** Whether a group begins with a copy of the superblock (and, without meta_bg, of the descriptors). */
export function hasBackup(superblock: Superblock, group: number): boolean {
  if (group === 0) return true;
  const { names } = superblock.features;
  if (names.has('sparse_super2')) return superblock.backupGroups.includes(group);
  if (group === 1 || !names.has('sparse_super')) return true;
  return [3, 5, 7].some((base) => isPower(group, base));
}

function isPower(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** First block of a group. */
export function groupStart(superblock: Superblock, group: number): number {
  return superblock.firstDataBlock + group * superblock.blocksPerGroup;
}
