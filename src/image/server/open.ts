/** From the inherited descriptor to a volume: container, partition, file system. */
import { fileDevice } from '../../ext4/block-device.ts';
import type { BlockDevice } from '../../ext4/block-device.ts';
import { openVolume } from '../../ext4/volume.ts';
import type { Volume } from '../../ext4/volume.ts';
import type { ServerRequest } from '../messages.ts';

export interface OpenImage {
  readonly volume: Volume;
  /** Where block 0 is in the image file; undefined when blocks are not simply there. */
  readonly startBytes: number | undefined;
  /** For people. */
  readonly notes: readonly string[];
}

const blockCacheMaxBytes = 128 * 1024 * 1024;
const inodeCacheMax = 262_144;

function slice(device: BlockDevice, offsetBytes: number): BlockDevice {
  return {
    sizeBytes: device.sizeBytes - offsetBytes,
    read: (at, into) => device.read(offsetBytes + at, into),
  };
}

/** Throws what the parts throw: EUCLEAN, EOPNOTSUPP, EIO, EINVAL. */
export function openImage(imageFd: number, request: ServerRequest): OpenImage {
  const startBytes = request.offsetBytes ?? 0;
  const device = slice(fileDevice(imageFd, request.imageBytes), startBytes);
  const volume = openVolume(device, { blockCacheMaxBytes, inodeCacheMax });
  return { volume, startBytes, notes: [] };
}
