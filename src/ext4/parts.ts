/** The parts of the reader over one device, put together: what a volume stands on, and who replays a journal. */
import type { BlockDevice } from './block-device.ts';
import { BlockCache, blockCacheDefaultMaxBytes } from './block-cache.ts';
import { BlockMap } from './block-map.ts';
import type { VolumeOptions } from './contract.ts';
import { findSuperblock } from './find-superblock.ts';
import type { FoundSuperblock } from './find-superblock.ts';
import { GroupTable } from './groups.ts';
import type { Image } from './image.ts';
import { InodeTable } from './inode-table.ts';
import { SystemZone } from './system-zone.ts';

export interface Parts {
  readonly found: FoundSuperblock;
  readonly image: Image;
  readonly groups: GroupTable;
  readonly inodes: InodeTable;
}

const inodeCacheDefaultMax = 65_536;

/** Throws EUCLEAN when no superblock can be used, EOPNOTSUPP (naming them) for features that Ebb does not know. */
export function openParts(device: BlockDevice, options: VolumeOptions): Parts {
  const verifyChecksums = options.verifyChecksums ?? true;
  const found = findSuperblock(device, verifyChecksums);
  const { superblock } = found;
  const cache = new BlockCache(
    device,
    superblock,
    options.blockCacheMaxBytes ?? blockCacheDefaultMaxBytes,
  );
  const groups = new GroupTable(superblock, cache, verifyChecksums);
  let zone: SystemZone | undefined;
  const inodes = new InodeTable(
    superblock,
    cache,
    groups,
    verifyChecksums,
    options.inodeCacheMax ?? inodeCacheDefaultMax,
  );
  const image: Image = {
    device,
    superblock,
    cache,
    map: new BlockMap(
      superblock,
      cache,
      () => (zone ??= new SystemZone(superblock, groups)),
      verifyChecksums,
    ),
    verifyChecksums: verifyChecksums && superblock.features.names.has('metadata_csum'),
    verifyValues: verifyChecksums,
    inode: (number) => inodes.inode(number),
    rawInode: (number) => inodes.raw(number),
  };
  return { found, image, groups, inodes };
}
