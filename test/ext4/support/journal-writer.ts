/** Writes journals as JBD2 does, in every form that the format has, for the recovery's model tests. */
import { crc32c } from '../../../src/ext4/checksum.ts';
import { crc32Be } from '../../../src/ext4/journal/crc32-be.ts';

export interface WrittenTransaction {
  /** Blocks of the file system, with one byte that they are filled with (-1: begins with the magic number). */
  readonly blocks: readonly (readonly [block: number, fill: number])[];
  readonly revoked: readonly number[];
}

export interface JournalForm {
  readonly checksums: 0 | 1 | 2 | 3;
  readonly wide: boolean;
  readonly asyncCommit: boolean;
  readonly sequence: number;
  readonly startBlock: number;
  readonly blockCount: number;
  readonly sameUuid: boolean;
}

export const journalBlockBytes = 1024;
const magic = 0xc03b3998;
const uuid = Buffer.from('0123456789abcdef');

export interface WrittenJournal {
  readonly bytes: Buffer;
  /** Log blocks of the commit records, in order. */
  readonly commits: readonly number[];
}

export function contentOfBlock(fill: number): Buffer {
  const block = Buffer.alloc(journalBlockBytes, fill & 0xff);
  if (fill < 0) block.writeUInt32BE(magic);
  return block;
}

export function writeJournal(
  form: JournalForm,
  transactions: readonly WrittenTransaction[],
): WrittenJournal {
  const { checksums, wide, blockCount } = form;
  const bytes = Buffer.alloc(blockCount * journalBlockBytes);
  const seed = crc32c(0xffffffff, uuid, 0, 16);
  const commits: number[] = [];
  let next = form.startBlock;
  const put = (block: Buffer): number => {
    const at = next;
    block.copy(bytes, at * journalBlockBytes);
    next = next + 1 >= blockCount ? 1 : next + 1;
    return at;
  };
  const seal = (block: Buffer): Buffer => {
    if (checksums >= 2) block.writeUInt32BE(crc32c(seed, block, 0, block.length), block.length - 4);
    return block;
  };
  const record = (type: number, sequence: number): Buffer => {
    const block = Buffer.alloc(journalBlockBytes);
    block.writeUInt32BE(magic, 0);
    block.writeUInt32BE(type, 4);
    block.writeUInt32BE(sequence, 8);
    return block;
  };
  transactions.forEach(({ blocks, revoked }, index) => {
    const sequence = (form.sequence + index) >>> 0;
    const number = Buffer.alloc(4);
    number.writeUInt32BE(sequence);
    let crc = 0xffffffff;
    if (revoked.length > 0) {
      const block = record(5, sequence);
      const size = wide ? 8 : 4;
      block.writeUInt32BE(16 + revoked.length * size, 12);
      revoked.forEach((each, at) => block.writeUInt32BE(each, 16 + at * size + size - 4));
      put(seal(block));
    }
    const tagBytes = checksums === 3 ? 16 : 8 + (checksums === 2 ? 2 : 0) + (wide ? 4 : 0);
    const perDescriptor = Math.floor((journalBlockBytes - 12 - 4) / (tagBytes + 16));
    for (let first = 0; first < blocks.length; first += perDescriptor) {
      const part = blocks.slice(first, first + perDescriptor);
      const descriptor = record(1, sequence);
      const logged: Buffer[] = [];
      let at = 12;
      part.forEach(([block, fill], place) => {
        const content = contentOfBlock(fill);
        const escaped = content.readUInt32BE() === magic;
        if (escaped) content.writeUInt32BE(0);
        const sameUuid = form.sameUuid && place > 0;
        const last = place === part.length - 1;
        descriptor.writeUInt32BE(block, at);
        descriptor.writeUInt16BE((escaped ? 1 : 0) | (sameUuid ? 2 : 0) | (last ? 8 : 0), at + 6);
        const checksum = crc32c(crc32c(seed, number, 0, 4), content, 0, content.length);
        if (checksums === 3) descriptor.writeUInt32BE(checksum, at + 12);
        if (checksums === 2) descriptor.writeUInt16BE(checksum & 0xffff, at + 4);
        at += tagBytes + (sameUuid ? 0 : 16);
        logged.push(content);
      });
      const sealed = seal(descriptor);
      for (const block of [sealed, ...logged]) {
        put(block);
        crc = crc32Be(crc, block);
      }
    }
    const commit = record(2, sequence);
    commit.writeBigUInt64BE(BigInt(1_700_000_000 + index), 48);
    if (checksums === 1) {
      commit.set([1, 4], 12);
      commit.writeUInt32BE(crc, 16);
    }
    if (checksums >= 2) commit.writeUInt32BE(crc32c(seed, commit, 0, commit.length), 16);
    commits.push(put(commit));
  });
  writeSuperblock(bytes, form);
  return { bytes, commits };
}

function writeSuperblock(bytes: Buffer, form: JournalForm): void {
  const head = [
    magic,
    4,
    0,
    journalBlockBytes,
    form.blockCount,
    1,
    form.sequence,
    form.startBlock,
    0,
  ];
  head.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  bytes.writeUInt32BE(form.checksums === 1 ? 1 : 0, 36);
  const kind = [0, 0, 0x8, 0x10][form.checksums] ?? 0;
  bytes.writeUInt32BE(1 | (form.wide ? 2 : 0) | (form.asyncCommit ? 4 : 0) | kind, 40);
  uuid.copy(bytes, 48);
  bytes[80] = 4;
  if (form.checksums >= 2) bytes.writeUInt32BE(crc32c(0xffffffff, bytes, 0, 1024), 0xfc);
}
