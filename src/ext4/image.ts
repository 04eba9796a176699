/** What the parts of the reader share about one open image. */
import type { BlockDevice } from './block-device.ts';
import type { BlockCache } from './block-cache.ts';
import type { BlockMap } from './block-map.ts';
import type { LoadedInode } from './loaded-inode.ts';
import type { Region } from './region.ts';
import type { Superblock } from './superblock.ts';

export interface Image {
  readonly device: BlockDevice;
  readonly superblock: Superblock;
  readonly cache: BlockCache;
  readonly map: BlockMap;
  /** Whether there are metadata checksums and they are wanted. */
  readonly verifyChecksums: boolean;
  /** Whether those of attribute values are wanted: every inode that holds a value has one. */
  readonly verifyValues: boolean;
  /** An inode by number; see `Volume.inode`. */
  inode(number: number): LoadedInode;
  /** The inode as it is stored, all of its bytes. */
  rawInode(number: number): Region;
}
