/**
 * The area of fast commits behind the log: small changes since the last full commit, as a list of tagged values
 * (fs/ext4/fast_commit.h). Little-endian, unlike the rest of a journal.
 */
import { crc32c } from '../checksum.ts';
import { unsupported } from '../errors.ts';
import { initializedLengthMax } from '../extents.ts';
import { smallInodeSize } from '../loaded-inode.ts';
import { viewOf } from '../region.ts';
import type { JournalSuperblock } from './journal-superblock.ts';
import type { JournalLog } from './log.ts';

export interface AddRange {
  readonly kind: 'add-range';
  readonly inode: number;
  readonly logicalBlock: number;
  readonly physicalBlock: number;
  readonly blockCount: number;
  readonly unwritten: boolean;
}

export interface RemoveRange {
  readonly kind: 'remove-range';
  readonly inode: number;
  readonly logicalBlock: number;
  readonly blockCount: number;
}

export interface NameChange {
  readonly kind: 'create' | 'link' | 'unlink';
  readonly parent: number;
  readonly inode: number;
  readonly name: Uint8Array;
}

export interface InodeChange {
  readonly kind: 'inode';
  readonly inode: number;
  /** The inode as on disk; its block pointers count only when its content is in it. */
  readonly raw: Uint8Array;
}

export type FastChange = AddRange | RemoveRange | NameChange | InodeChange;

const FastTag = {
  addRange: 1,
  removeRange: 2,
  create: 3,
  link: 4,
  unlink: 5,
  inode: 6,
  pad: 7,
  tail: 8,
  head: 9,
} as const;

const tagHeaderBytes = 4;
const nameMaxBytes = 255;
/** Changes in one area; the 256 blocks of 4 KiB that there are by default hold 87,000 at most. */
const changesMax = 250_000;

/**
 * The changes that were committed fast after the last full commit, in order: up to the last tail whose checksum is
 * right. Later ones were being written when the machine stopped. EOPNOTSUPP for features that are not known.
 */
export function readFastCommits(
  log: JournalLog,
  superblock: JournalSuperblock,
  inodeSizeBytes: number,
  sequence: number,
): FastChange[] {
  const committed: FastChange[] = [];
  let pending: FastChange[] = [];
  let crc = 0;
  // As the kernel: j_fc_first is one behind the end of the log.
  const first = superblock.logEnd + 1;
  for (let index = first; index < superblock.blockCount; index += 1) {
    const block = log.block(index, superblock.blockCount);
    if (index === first && viewOf(block).getUint16(0, true) !== FastTag.head) return committed;
    for (let at = 0; at + tagHeaderBytes <= block.length;) {
      const view = viewOf(block);
      const tag = view.getUint16(at, true);
      const size = view.getUint16(at + 2, true);
      const start = at + tagHeaderBytes;
      const end = start + size;
      if (end > block.length || !isSizeRight(tag, size, inodeSizeBytes)) return committed;
      if (tag === FastTag.tail) {
        crc = crc32c(crc, block, at, start + 4);
        const isRight =
          view.getUint32(start, true) === sequence && view.getUint32(start + 4, true) === crc;
        if (!isRight) return committed;
        for (const change of pending) committed.push(change);
        pending = [];
        crc = 0;
      } else {
        if (tag === FastTag.head) {
          if (view.getUint32(start + 4, true) !== sequence) return committed;
          const features = view.getUint32(start, true);
          if (features !== 0) {
            throw unsupported(
              `The fast commits of the journal use features 0x${features.toString(16)}.`,
            );
          }
        } else if (tag !== FastTag.pad) {
          pending.push(decodeChange(tag, block.slice(start, end)));
          if (pending.length + committed.length > changesMax) {
            throw unsupported(`The journal has more than ${changesMax} fast commits.`);
          }
        }
        crc = crc32c(crc, block, at, end);
      }
      at = end;
    }
  }
  return committed;
}

/** ext4_fc_value_len_isvalid. */
function isSizeRight(tag: number, size: number, inodeSizeBytes: number): boolean {
  switch (tag) {
    case FastTag.addRange:
      return size === 16;
    case FastTag.removeRange:
      return size === 12;
    case FastTag.create:
    case FastTag.link:
    case FastTag.unlink:
      return size > 8 && size <= 8 + nameMaxBytes;
    case FastTag.inode:
      return size >= 4 + smallInodeSize && size <= 4 + inodeSizeBytes;
    case FastTag.tail:
      return size >= 8;
    case FastTag.head:
      return size === 8;
    default:
      return tag === FastTag.pad;
  }
}

function decodeChange(tag: number, value: Uint8Array): FastChange {
  const view = viewOf(value);
  const inode = view.getUint32(0, true);
  switch (tag) {
    case FastTag.addRange: {
      const length = view.getUint16(8, true);
      const unwritten = length > initializedLengthMax;
      return {
        kind: 'add-range',
        inode,
        logicalBlock: view.getUint32(4, true),
        physicalBlock: view.getUint16(10, true) * 2 ** 32 + view.getUint32(12, true),
        blockCount: unwritten ? length - initializedLengthMax : length,
        unwritten,
      };
    }
    case FastTag.removeRange:
      return {
        kind: 'remove-range',
        inode,
        logicalBlock: view.getUint32(4, true),
        blockCount: view.getUint32(8, true),
      };
    case FastTag.inode:
      return { kind: 'inode', inode, raw: value.subarray(4) };
    default:
      return {
        kind: tag === FastTag.create ? 'create' : tag === FastTag.link ? 'link' : 'unlink',
        parent: inode,
        inode: view.getUint32(4, true),
        name: value.subarray(8),
      };
  }
}
