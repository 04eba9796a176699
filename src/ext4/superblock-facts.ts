/** The superblock for others: names instead of bits. */
import type { SuperblockFacts } from './contract.ts';
import type { FoundSuperblock } from './find-superblock.ts';

const cleanState = 0x1;
const errorState = 0x2;
const decoder = new TextDecoder();

export function superblockFacts({ superblock, backup }: FoundSuperblock): SuperblockFacts {
  const { features, state, label } = superblock;
  const labelEnd = label.indexOf(0);
  let condition: SuperblockFacts['state'] = 'clean';
  if ((state & cleanState) === 0) condition = 'not-unmounted';
  if ((state & errorState) !== 0) condition = 'errors';
  return {
    blockSizeBytes: superblock.blockSizeBytes,
    blockCount: superblock.blockCount,
    inodeCount: superblock.inodeCount,
    groupCount: superblock.groupCount,
    blocksPerGroup: superblock.blocksPerGroup,
    inodesPerGroup: superblock.inodesPerGroup,
    inodeSizeBytes: superblock.inodeSizeBytes,
    firstInode: superblock.firstInode,
    clusterSizeBytes: superblock.clusterSizeBytes,
    features: features.names,
    unknownReadOnlyFeatures: features.unknownReadOnly,
    uuid: Buffer.from(superblock.uuid)
      .toString('hex')
      .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    label: decoder.decode(labelEnd < 0 ? label : label.subarray(0, labelEnd)),
    needsRecovery: features.names.has('needs_recovery'),
    journalInode: superblock.journalInode,
    state: condition,
    backup,
  };
}
