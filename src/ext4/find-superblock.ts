/** Finding a superblock that can be used: the primary one, or a backup when that one is damaged. */
import type { BlockDevice } from './block-device.ts';
import { toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { corrupt, isDamage } from './errors.ts';
import {
  decodeSuperblock,
  groupStart,
  superblockOffsetBytes,
  superblockSizeBytes,
} from './superblock.ts';
import type { Superblock } from './superblock.ts';

export interface FoundSuperblock {
  readonly superblock: Superblock;
  /** Set when the primary one was unusable. */
  readonly backup: { readonly blockNumber: number; readonly reason: string } | undefined;
}

/** The first groups that have a backup under sparse_super; sparse_super2 uses the first of them, too. */
const backupGroups = [1, 3, 5, 7, 9, 25, 27, 49];

/**
 * Throws what is wrong with the primary superblock (EUCLEAN, EOPNOTSUPP) when no backup is usable. Backups are
 * looked for where mke2fs puts them by default, for each size of blocks.
 */
export function findSuperblock(device: BlockDevice, verifyChecksum: boolean): FoundSuperblock {
  let reason: EbbError;
  try {
    const superblock = readCopy(device, superblockOffsetBytes, verifyChecksum);
    if (superblock.groupOfCopy !== 0) throw corrupt('the first superblock is a misplaced copy');
    return { superblock, backup: undefined };
  } catch (error) {
    reason = toEbbError(error);
    // A feature that we cannot read is no damage, nor is a remote that is slow.
    if (!isDamage(reason)) throw reason;
  }
  for (let blockSizeBytes = 1024; blockSizeBytes <= 65_536; blockSizeBytes *= 2) {
    const firstBlock = blockSizeBytes === 1024 ? 1 : 0;
    for (const group of backupGroups) {
      const blockNumber = firstBlock + group * 8 * blockSizeBytes;
      const superblock = readBackup(device, blockNumber * blockSizeBytes, group);
      if (superblock === undefined || superblock.blockSizeBytes !== blockSizeBytes) continue;
      if (groupStart(superblock, group) !== blockNumber) continue;
      return { superblock, backup: { blockNumber, reason: reason.message } };
    }
  }
  throw reason;
}

function readBackup(device: BlockDevice, offset: number, group: number): Superblock | undefined {
  if (offset + superblockSizeBytes > device.sizeBytes) return undefined;
  try {
    const superblock = readCopy(device, offset, true);
    return superblock.groupOfCopy === group ? superblock : undefined;
  } catch (error) {
    if (isDamage(toEbbError(error))) return undefined;
    throw error;
  }
}

function readCopy(device: BlockDevice, offset: number, verifyChecksum: boolean): Superblock {
  if (device.sizeBytes < offset + superblockSizeBytes) {
    throw corrupt(`${device.sizeBytes} bytes are too few for a file system`);
  }
  const bytes = new Uint8Array(superblockSizeBytes);
  device.read(offset, bytes);
  return decodeSuperblock(bytes, device.sizeBytes, verifyChecksum);
}
