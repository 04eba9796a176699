/** Opening an image. The contract of what comes out is in contract.ts. */
import type { BlockDevice } from './block-device.ts';
import type { Volume, VolumeOptions } from './contract.ts';
import { unsupported } from './errors.ts';

export type {
  DirectoryEntry,
  ExtendedAttribute,
  Extent,
  FilesystemStatistics,
  FileType,
  Inode,
  SuperblockFacts,
  Timestamp,
  Volume,
  VolumeOptions,
} from './contract.ts';

/**
 * Opens an ext2, ext3 or ext4 image for reading. Throws EUCLEAN when neither the superblock nor one
 * of its backups can be used, EOPNOTSUPP (naming them) when it has features that Ebb does not know.
 */
export function openVolume(device: BlockDevice, _options: VolumeOptions = {}): Volume {
  throw unsupported(`An image of ${device.sizeBytes} bytes cannot be opened yet`);
}
