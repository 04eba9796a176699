/**
 * The blocks of a log: descriptors with tags, revocations, commits (include/linux/jbd2.h). Decoded and checked here,
 * block by block; what they mean together is in recover.ts.
 */
import { crc32c, crc32cZeros } from '../checksum.ts';
import { corrupt } from '../errors.ts';
import { viewOf } from '../region.ts';
import { journalMagic } from './journal-superblock.ts';
import type { JournalSuperblock } from './journal-superblock.ts';

export const RecordType = { descriptor: 1, commit: 2, revoke: 5 } as const;

const headerSizeBytes = 12;
const uuidSizeBytes = 16;
const tailSizeBytes = 4;
const revokeHeaderSizeBytes = 16;
const commitChecksumOffset = 16;
const commitHeaderSizeBytes = 60;
const tagFlag = { escaped: 1, sameUuid: 2, last: 8 } as const;
const crc32Type = 1;
const crc32Size = 4;
const twoTo32 = 2 ** 32;

export interface Tag {
  /** Block of the file system. */
  readonly block: number;
  /** Its first four bytes were a journal's magic number and are zeros in the log. */
  readonly escaped: boolean;
  /** As stored: 16 bits of version 2, 32 of version 3. */
  readonly checksum: number;
}

export interface Header {
  readonly type: number;
  readonly sequence: number;
}

/** undefined for a block that does not begin as a record. */
export function decodeHeader(block: Uint8Array): Header | undefined {
  const view = viewOf(block);
  if (view.getUint32(0) !== journalMagic) return undefined;
  return { type: view.getUint32(4), sequence: view.getUint32(8) };
}

/** Tags of a descriptor, each for one of the blocks that follow it. */
export function decodeTags(superblock: JournalSuperblock, block: Uint8Array): Tag[] {
  const { wide, checksums } = superblock;
  const view = viewOf(block);
  const sizeBytes = tagSize(superblock);
  const end = block.byteLength - (checksums >= 2 ? tailSizeBytes : 0);
  const tags: Tag[] = [];
  for (let at = headerSizeBytes; at + sizeBytes <= end;) {
    // Version 3 has 32 bits of flags at 4, of which the high ones are never set.
    const flags = view.getUint16(at + 6);
    const high = wide ? view.getUint32(at + 8) : 0;
    let checksum = 0;
    if (checksums === 3) checksum = view.getUint32(at + 12);
    if (checksums === 2) checksum = view.getUint16(at + 4);
    tags.push({
      block: view.getUint32(at) + high * twoTo32,
      escaped: (flags & tagFlag.escaped) !== 0,
      checksum,
    });
    at += sizeBytes + ((flags & tagFlag.sameUuid) === 0 ? uuidSizeBytes : 0);
    if ((flags & tagFlag.last) !== 0) break;
  }
  return tags;
}

/** journal_tag_bytes of the kernel. */
function tagSize({ wide, checksums }: JournalSuperblock): number {
  if (checksums === 3) return 16;
  return 8 + (checksums === 2 ? 2 : 0) + (wide ? 4 : 0);
}

/** Blocks that a revocation record names. EUCLEAN when its count cannot be right. */
export function* decodeRevocations(
  superblock: JournalSuperblock,
  block: Uint8Array,
): Generator<number> {
  const view = viewOf(block);
  const usedBytes = view.getUint32(headerSizeBytes);
  const tail = superblock.checksums >= 2 ? tailSizeBytes : 0;
  if (usedBytes > block.byteLength - tail) {
    throw corrupt(`a revocation in the journal has ${usedBytes} bytes`);
  }
  const sizeBytes = superblock.wide ? 8 : 4;
  for (let at = revokeHeaderSizeBytes; at + sizeBytes <= usedBytes; at += sizeBytes) {
    yield superblock.wide
      ? view.getUint32(at) * twoTo32 + view.getUint32(at + 4)
      : view.getUint32(at);
  }
}

/** Checks the checksum at the end of a descriptor or revocation; true where there are none. */
export function isTailRight({ checksums, checksumSeed }: JournalSuperblock, block: Uint8Array) {
  if (checksums < 2) return true;
  const at = block.byteLength - tailSizeBytes;
  const crc = crc32cZeros(crc32c(checksumSeed, block, 0, at), tailSizeBytes);
  return crc === viewOf(block).getUint32(at);
}

/** Checks a block of a transaction, as it is in the log, against its tag; true where there are no checksums. */
export function isBlockRight(
  { checksums, checksumSeed }: JournalSuperblock,
  tag: Pick<Tag, 'checksum'>,
  sequence: number,
  block: Uint8Array,
): boolean {
  if (checksums < 2) return true;
  const number = new Uint8Array(4);
  viewOf(number).setUint32(0, sequence);
  const crc = crc32c(crc32c(checksumSeed, number, 0, 4), block, 0, block.byteLength);
  return (checksums === 3 ? crc : crc & 0xffff) === tag.checksum;
}

/**
 * Checks a commit block. `transactionCrc` is that of version 1: of all blocks of the transaction. A commit block whose
 * rest did not arrive is one (the rest is zeros; kernel: jbd2_commit_block_csum_verify_partial).
 */
export function isCommitRight(
  { checksums, checksumSeed }: JournalSuperblock,
  block: Uint8Array,
  transactionCrc: number,
): boolean {
  if (checksums === 0) return true;
  const view = viewOf(block);
  const stored = view.getUint32(commitChecksumOffset);
  if (checksums === 1) {
    const type = view.getUint8(12);
    const size = view.getUint8(13);
    const isUnused = type === 0 && size === 0 && stored === 0;
    return isUnused || (type === crc32Type && size === crc32Size && stored === transactionCrc);
  }
  const whole = crcOfCommit(checksumSeed, block, block.byteLength);
  return stored === whole || stored === crcOfCommit(checksumSeed, block, commitHeaderSizeBytes);
}

/** Of the first bytes, the rest counted as zeros. */
function crcOfCommit(seed: number, block: Uint8Array, sizeBytes: number): number {
  let crc = crc32cZeros(crc32c(seed, block, 0, commitChecksumOffset), 4);
  crc = crc32c(crc, block, commitChecksumOffset + 4, sizeBytes);
  return crc32cZeros(crc, block.byteLength - sizeBytes);
}

/** When the transaction was committed, in seconds. */
export function commitSeconds(block: Uint8Array): number {
  const view = viewOf(block);
  return view.getUint32(48) * twoTo32 + view.getUint32(52);
}
