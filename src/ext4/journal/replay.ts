/**
 * Opening an image as the kernel would find it after replaying its journal. The image is never written: what belongs in
 * its place is read from the log (overlay.ts).
 */
import type { BlockDevice } from '../block-device.ts';
import { corrupt, unsupported } from '../errors.ts';
import { openVolume } from '../volume.ts';
import type { Volume, VolumeOptions } from '../volume.ts';
import { readFastCommits } from './fast-commit.ts';
import { replayFastCommits } from './fast-replay.ts';
import { decodeJournalSuperblock, superblockSizeBytes } from './journal-superblock.ts';
import { JournalLog } from './log.ts';
import { ReplayOverlay } from './overlay.ts';
import { recoverLog } from './recover.ts';

export interface ReplayOptions extends VolumeOptions {
  /**
   * `replay` (default) reads what the journal says over the image. `full-commits` leaves out fast commits: the changes
   * since the last full one are missing, the rest is whole. `ignore` reads the image as it is, as mount -o noload does:
   * what was changed last is missing, and structures may contradict each other.
   */
  readonly journal?: 'replay' | 'full-commits' | 'ignore';
}

export interface ReplayFacts {
  /** `none`: there was nothing to replay. `ignored`: there was, and it was not wanted. */
  readonly state: 'none' | 'replayed' | 'ignored';
  readonly transactions: number;
  /** Blocks of the file system that are read from the journal. */
  readonly blocks: number;
  readonly revokedBlocks: number;
  /** Changes of fast commits that were replayed, and that were left out. */
  readonly fastChanges: number;
  readonly fastChangesIgnored: number;
}

export interface ReplayedVolume {
  readonly volume: Volume;
  readonly replay: ReplayFacts;
  /** What the volume reads: blocks that lie there may not lie in the image. */
  readonly device: BlockDevice;
  /** Set when it was replayed: says which blocks the image itself has in an older version. */
  readonly overlay: ReplayOverlay | undefined;
}

const nothing: ReplayFacts = {
  state: 'none',
  transactions: 0,
  blocks: 0,
  revokedBlocks: 0,
  fastChanges: 0,
  fastChangesIgnored: 0,
};

/**
 * Opens an image over its journal. Throws as `openVolume` does; EUCLEAN for a journal that is damaged, EOPNOTSUPP, by
 * name, when it is on another device or uses what Ebb does not know. All of these go away with `journal: 'ignore'`.
 */
export function openReplayed(device: BlockDevice, options: ReplayOptions = {}): ReplayedVolume {
  const volume = openVolume(device, options);
  const { superblock } = volume;
  // A backup of the superblock does not say whether there is something to replay: the journal does.
  const mayBeDirty = superblock.needsRecovery || superblock.backup !== undefined;
  if (!mayBeDirty || !superblock.features.has('has_journal')) {
    return { volume, replay: nothing, device, overlay: undefined };
  }
  if (options.journal === 'ignore') {
    return { volume, replay: { ...nothing, state: 'ignored' }, device, overlay: undefined };
  }
  const { journalInode, blockSizeBytes } = superblock;
  if (journalInode === 0) {
    throw unsupported(
      'The file system has its journal on another device, and changes in it that are not in place yet. ' +
        'Run e2fsck with both, or read without them: -o noload',
    );
  }
  const inode = volume.inode(journalInode);
  if (inode.type !== 'file') throw corrupt('its journal is no file');
  const log = new JournalLog(device, blockSizeBytes, volume.extents(inode));
  if (log.blockCount === 0) throw corrupt('its journal is empty');
  const first = log.block(0).slice(0, superblockSizeBytes);
  const journal = decodeJournalSuperblock(first, blockSizeBytes, log.blockCount);
  if (journal.startBlock === 0) return { volume, replay: nothing, device, overlay: undefined };
  const { blocks, transactions, revokedBlocks, endSequence } = recoverLog(log, journal);
  const fastChanges = journal.fastCommit
    ? readFastCommits(log, journal, superblock.inodeSizeBytes, endSequence)
    : [];
  for (const block of blocks.keys()) {
    if (log.owns(block)) throw corrupt(`its journal has block ${block}, which is its own`);
  }
  const overlay = new ReplayOverlay(device, log, journal, blocks);
  // As it is now: it may have been enlarged while it was mounted, and the journal says so, too.
  const { blockCount } = openVolume(overlay, options).superblock;
  for (const block of blocks.keys()) {
    if (block >= blockCount) {
      throw corrupt(`its journal has block ${block} of a file system of ${blockCount} blocks`);
    }
  }
  const isFastReplayed = fastChanges.length > 0 && options.journal !== 'full-commits';
  if (isFastReplayed) replayFastCommits(overlay, options, fastChanges);
  return {
    volume: openVolume(overlay, options),
    replay: {
      state: 'replayed',
      transactions,
      blocks: blocks.size,
      revokedBlocks,
      fastChanges: isFastReplayed ? fastChanges.length : 0,
      fastChangesIgnored: isFastReplayed ? 0 : fastChanges.length,
    },
    device: overlay,
    overlay,
  };
}
