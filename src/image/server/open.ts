/** From the inherited descriptor to a volume: container, partition, file system, journal. */
import { fileDevice } from '../../ext4/block-device.ts';
import { openReplayed } from '../../ext4/journal/replay.ts';
import type { ReplayFacts } from '../../ext4/journal/replay.ts';
import type { Volume } from '../../ext4/volume.ts';
import { choosePlace, openDisk, openPlace } from '../container/open-image.ts';
import type { Disk, Place } from '../container/open-image.ts';
import type { ServerRequest } from '../messages.ts';
import { RecalledDevice } from './recalled-device.ts';
import type { RecallSource } from './recalled-device.ts';

export interface OpenImage {
  readonly volume: Volume;
  /** Where block 0 is in the image file; undefined when blocks are not simply there. */
  readonly startBytes: number | undefined;
  /** For people. */
  readonly notes: readonly string[];
  /** Set when parts of the image are not in the file: then nothing but this device may read it. */
  readonly recalled: RecalledDevice | undefined;
}

/**
 * With these a million inodes are listed in less than 400 MiB. More of either is of little use: what was decoded
 * once the kernel keeps for an hour, and blocks are in its page cache.
 */
const blockCacheMaxBytes = 64 * 1024 * 1024;
const inodeCacheMax = 65_536;

/** Throws what the parts throw: EUCLEAN, EOPNOTSUPP, EIO, EINVAL. */
export function openImage(
  imageFd: number,
  request: ServerRequest,
  source: RecallSource,
): OpenImage {
  const { offsetBytes, partition, journal, recall, imageBytes } = request;
  const file = fileDevice(imageFd, imageBytes);
  const recalled =
    recall === undefined
      ? undefined
      : new RecalledDevice(file, source, { ...recall, sizeBytes: imageBytes });
  const disk = openDisk(recalled ?? file);
  const place = choosePlace(disk, { offsetBytes, partition });
  const options = { blockCacheMaxBytes, inodeCacheMax, journal };
  const { volume, replay, overlay } = openReplayed(openPlace(disk, place), options);
  // Over a replayed journal any block may be in the log instead of its place: everything is read through the volume.
  const isInPlace = disk.container.format === 'raw' && overlay === undefined;
  const notes = [...notesOf(disk, place), ...volumeNotes(volume, replay)];
  return { volume, startBytes: isInPlace ? place.offsetBytes : undefined, notes, recalled };
}

function notesOf({ container, table }: Disk, { partition }: Place): string[] {
  const notes = partition === undefined ? [] : [`partition ${partition.number}`];
  if (partition !== undefined) notes.push(...(table?.warnings ?? []));
  if (container.format === 'qcow2' && container.markedCorrupt) {
    notes.push('QEMU marked this image as corrupt');
  }
  return notes;
}

function volumeNotes({ superblock }: Volume, replay: ReplayFacts): string[] {
  const notes: string[] = [];
  const { backup, state } = superblock;
  if (backup !== undefined) {
    const used = `the copy in block ${backup.blockNumber} is used`;
    notes.push(`its first superblock is damaged (${backup.reason}): ${used}`);
  }
  if (state === 'errors') notes.push('the kernel recorded errors in it');
  if (replay.state === 'replayed') {
    notes.push(`its journal was replayed in memory: ${replay.transactions} transactions`);
  } else if (replay.state === 'ignored') {
    notes.push('its journal was not replayed: what was changed last is missing');
  }
  return notes;
}
