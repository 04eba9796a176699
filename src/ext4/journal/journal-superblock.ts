/**
 * The superblock of a JBD2 journal: its geometry, where the log begins and what its blocks look like. All numbers of a
 * journal are big-endian. Layout: struct journal_superblock_s (Documentation/filesystems/ext4/journal.rst).
 */
import { crc32c, crc32cZeros } from '../checksum.ts';
import { corrupt, unsupported } from '../errors.ts';

export const journalMagic = 0xc03b3998;
export const superblockSizeBytes = 1024;

export interface JournalSuperblock {
  /** Blocks of the journal, this one included. */
  readonly blockCount: number;
  /** The log is [firstBlock, logEnd); behind it there may be the area of fast commits. */
  readonly firstBlock: number;
  readonly logEnd: number;
  /** Where the oldest transaction begins; 0: the log is empty. */
  readonly startBlock: number;
  /** Number of that transaction. */
  readonly sequence: number;
  /** Block numbers have 64 bits. */
  readonly wide: boolean;
  readonly asyncCommit: boolean;
  /** 0: none; 1: of whole transactions, in commit blocks; 2 and 3: of each block. */
  readonly checksums: 0 | 1 | 2 | 3;
  readonly fastCommit: boolean;
  /** crc32c of checksums 2 and 3 continues from here. */
  readonly checksumSeed: number;
}

const incompatible = {
  revoke: 0x1,
  wide: 0x2,
  asyncCommit: 0x4,
  checksumV2: 0x8,
  checksumV3: 0x10,
  fastCommit: 0x20,
} as const;
const incompatibleKnown = 0x3f;
const compatibleChecksum = 0x1;
const crc32cType = 4;
const checksumOffset = 0xfc;
const fastCommitBlocksDefault = 256;
/** JBD2_MIN_JOURNAL_BLOCKS: the log keeps so many, whatever is asked for fast commits. */
const logBlocksMin = 1024;

/** Decodes block 0 of a journal of `blocksMax` blocks. Throws EUCLEAN, EOPNOTSUPP (for what is not known). */
export function decodeJournalSuperblock(
  bytes: Uint8Array,
  blockSizeBytes: number,
  blocksMax: number,
): JournalSuperblock {
  const view = new DataView(bytes.buffer, bytes.byteOffset, superblockSizeBytes);
  const type = view.getUint32(4);
  if (view.getUint32(0) !== journalMagic || (type !== 3 && type !== 4)) {
    throw corrupt('its journal has no superblock');
  }
  const must = (condition: boolean, what: string): void => {
    if (!condition) throw corrupt(`the superblock of the journal says ${what}`);
  };
  const hasFeatures = type === 4;
  const compat = hasFeatures ? view.getUint32(36) : 0;
  const incompat = hasFeatures ? view.getUint32(40) : 0;
  const unknown = (incompat & ~incompatibleKnown) >>> 0;
  if (unknown !== 0) {
    throw unsupported(
      `The journal uses features that Ebb does not know: 0x${unknown.toString(16)}`,
    );
  }
  const has = (bit: number): boolean => (incompat & bit) !== 0;
  const kinds = [
    (compat & compatibleChecksum) !== 0,
    has(incompatible.checksumV2),
    has(incompatible.checksumV3),
  ];
  must(kinds.filter(Boolean).length <= 1, 'that it has several kinds of checksums');
  const checksums = (kinds.indexOf(true) + 1) as 0 | 1 | 2 | 3;
  if (checksums >= 2) verifyChecksum(bytes, view);

  const blockSize = view.getUint32(12);
  must(blockSize === blockSizeBytes, `that its blocks have ${blockSize} bytes`);
  const blockCount = view.getUint32(16);
  must(
    blockCount > 1 && blockCount <= blocksMax,
    `that it has ${blockCount} of ${blocksMax} blocks`,
  );
  const fastCommit = has(incompatible.fastCommit);
  const wanted = view.getUint32(84) || fastCommitBlocksDefault;
  const fastBlocks = fastCommit && blockCount - wanted >= logBlocksMin ? wanted : 0;
  const logEnd = blockCount - fastBlocks;
  const firstBlock = view.getUint32(20);
  must(firstBlock >= 1 && firstBlock < logEnd, `that its log begins at block ${firstBlock}`);
  const startBlock = view.getUint32(28);
  must(
    startBlock === 0 || (startBlock >= firstBlock && startBlock < logEnd),
    `that its first transaction is at block ${startBlock}`,
  );
  return {
    blockCount,
    firstBlock,
    logEnd,
    startBlock,
    sequence: view.getUint32(24),
    wide: has(incompatible.wide),
    asyncCommit: has(incompatible.asyncCommit),
    checksums,
    fastCommit,
    checksumSeed: crc32c(0xffffffff, bytes, 48, 64),
  };
}

function verifyChecksum(bytes: Uint8Array, view: DataView): void {
  const type = view.getUint8(80);
  if (type !== crc32cType) throw corrupt(`the journal has checksums of type ${type}`);
  let crc = crc32c(0xffffffff, bytes, 0, checksumOffset);
  crc = crc32cZeros(crc, 4);
  crc = crc32c(crc, bytes, checksumOffset + 4, superblockSizeBytes);
  if (crc !== view.getUint32(checksumOffset)) {
    throw corrupt('the checksum of the superblock of the journal is wrong');
  }
}
