/**
 * What a log says that belongs where: the passes of the kernel's fs/jbd2/recovery.c (scan, revoke, replay) over one
 * reading of its records. The blocks themselves are not read (but for checksums of version 1, which cover them): a log
 * of a remote image costs its descriptors, and a block is checked when it is asked for.
 */
import { corrupt, unsupported } from '../errors.ts';
import { crc32Be } from './crc32-be.ts';
import type { JournalSuperblock } from './journal-superblock.ts';
import type { JournalLog } from './log.ts';
import {
  commitSeconds,
  decodeHeader,
  decodeRevocations,
  decodeTags,
  isCommitRight,
  isTailRight,
  RecordType,
} from './records.ts';
import type { Tag } from './records.ts';

/** The newest version of a block of the file system, in the log. */
export interface LoggedBlock extends Tag {
  /** Its place in the journal. */
  readonly logBlock: number;
  readonly sequence: number;
}

export interface Recovery {
  /** By number of the block in the file system. */
  readonly blocks: ReadonlyMap<number, LoggedBlock>;
  /** Complete transactions in the log. */
  readonly transactions: number;
  /** Number of the transaction after the last complete one: fast commits continue that one. */
  readonly endSequence: number;
  /** Blocks that were not taken because a later transaction revoked them. */
  readonly revokedBlocks: number;
}

/** 4 GiB of blocks of 4 KiB; mke2fs makes journals of 1 GiB at most by itself. About 100 bytes each. */
const blocksMax = 1_048_576;
const revocationsMax = 4_194_304;
/** Logged blocks that are read for checksums of version 1, which cover them; as large as journals of mke2fs get. */
const summedMaxBytes = 1024 ** 3;

interface Transaction {
  readonly sequence: number;
  readonly tags: LoggedBlock[];
  readonly revoked: number[];
}

/** Throws EUCLEAN for a log that is damaged, not just cut off where the machine stopped. */
export function recoverLog(log: JournalLog, superblock: JournalSuperblock): Recovery {
  const { transactions, endSequence } = new Scan(log, superblock).run();
  const blocks = new Map<number, LoggedBlock>();
  let revokedBlocks = 0;
  // In their order: a revocation is for what was logged before it, in its own transaction, too.
  for (const { tags, revoked } of transactions) {
    for (const tag of tags) blocks.set(tag.block, tag);
    for (const block of revoked) {
      if (blocks.delete(block)) revokedBlocks += 1;
    }
  }
  return { blocks, transactions: transactions.length, endSequence, revokedBlocks };
}

class Scan {
  readonly #log: JournalLog;
  readonly #superblock: JournalSuperblock;
  readonly #transactions: Transaction[] = [];
  #current: Transaction;
  #next: number;
  /** Blocks gone over: a log has one round, whatever its records say. */
  #passed = 0;
  #tags = 0;
  #revocations = 0;
  #summedBytes = 0;
  #crc = 0xffffffff;
  #lastCommitSeconds = 0;
  /** A descriptor or revocation of this transaction has a wrong checksum: damage, or a block of an older life. */
  #doubtful = false;

  constructor(log: JournalLog, superblock: JournalSuperblock) {
    this.#log = log;
    this.#superblock = superblock;
    this.#next = superblock.startBlock;
    this.#current = { sequence: superblock.sequence, tags: [], revoked: [] };
  }

  run(): { transactions: readonly Transaction[]; endSequence: number } {
    for (;;) {
      if (this.#isRoundOver(1)) break;
      const block = this.#take();
      const header = decodeHeader(block);
      if (header?.sequence !== this.#current.sequence) break;
      if (header.type === RecordType.descriptor) this.#descriptor(block);
      else if (header.type === RecordType.revoke) this.#revocation(block);
      else if (header.type !== RecordType.commit || !this.#commit(block)) break;
    }
    return { transactions: this.#transactions, endSequence: this.#current.sequence };
  }

  #isRoundOver(count: number): boolean {
    const { firstBlock, logEnd } = this.#superblock;
    return this.#passed + count > logEnd - firstBlock;
  }

  #take(): Uint8Array {
    const block = this.#log.block(this.#next, this.#superblock.logEnd);
    this.#skip(1);
    return block;
  }

  #skip(count: number): void {
    const { firstBlock, logEnd } = this.#superblock;
    this.#passed += count;
    this.#next += count;
    if (this.#next >= logEnd) this.#next -= logEnd - firstBlock;
  }

  #descriptor(block: Uint8Array): void {
    const superblock = this.#superblock;
    if (!isTailRight(superblock, block)) this.#doubtful = true;
    if (superblock.checksums === 1) this.#crc = crc32Be(this.#crc, block);
    const tags = decodeTags(superblock, block);
    if (superblock.checksums === 1) {
      this.#summedBytes += tags.length * this.#log.blockSizeBytes;
      if (this.#summedBytes > summedMaxBytes) {
        throw unsupported(
          'The journal holds more than 1 GiB under old checksums; Ebb sums no more.',
        );
      }
    }
    for (const tag of tags) {
      if (this.#isRoundOver(1)) throw corrupt('the log of the journal overtakes itself');
      this.#tags += 1;
      if (this.#tags > blocksMax) {
        throw unsupported(`The journal holds more than ${blocksMax} blocks; Ebb replays no more.`);
      }
      this.#current.tags.push({ ...tag, logBlock: this.#next, sequence: this.#current.sequence });
      if (superblock.checksums === 1) this.#crc = crc32Be(this.#crc, this.#take());
      else this.#skip(1);
    }
  }

  #revocation(block: Uint8Array): void {
    if (!isTailRight(this.#superblock, block)) {
      this.#doubtful = true;
      return;
    }
    for (const revoked of decodeRevocations(this.#superblock, block)) {
      this.#revocations += 1;
      if (this.#revocations > revocationsMax) {
        throw unsupported(`The journal revokes more than ${revocationsMax} blocks.`);
      }
      this.#current.revoked.push(revoked);
    }
  }

  /** False: the log ends before this transaction. */
  #commit(block: Uint8Array): boolean {
    const { sequence } = this.#current;
    const seconds = commitSeconds(block);
    const isStale = seconds < this.#lastCommitSeconds;
    if (this.#doubtful) {
      if (isStale) return false;
      throw damaged(sequence);
    }
    if (!isCommitRight(this.#superblock, block, this.#crc)) {
      if (isStale) return false;
      // With asynchronous commits this is where the machine stopped, unless it went on afterwards.
      if (!this.#superblock.asyncCommit || this.#nextCommitFollows()) throw damaged(sequence);
      return false;
    }
    this.#transactions.push(this.#current);
    this.#lastCommitSeconds = seconds;
    this.#crc = 0xffffffff;
    this.#current = { sequence: (sequence + 1) >>> 0, tags: [], revoked: [] };
    return true;
  }

  /** Looks behind a commit block that is wrong: does the transaction after it have one? */
  #nextCommitFollows(): boolean {
    const sequence = (this.#current.sequence + 1) >>> 0;
    while (!this.#isRoundOver(1)) {
      const block = this.#take();
      const header = decodeHeader(block);
      if (header?.sequence !== sequence) return false;
      if (header.type === RecordType.commit) return true;
      if (header.type === RecordType.descriptor) {
        const { length } = decodeTags(this.#superblock, block);
        if (this.#isRoundOver(length)) return false;
        this.#skip(length);
      } else if (header.type !== RecordType.revoke) {
        return false;
      }
    }
    return false;
  }
}

function damaged(sequence: number): Error {
  return corrupt(`transaction ${sequence} of its journal has a wrong checksum`);
}
