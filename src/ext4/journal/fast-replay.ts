/**
 * Replaying fast commits into memory: what ext4_fc_replay of the kernel does to the file system, done to blocks of a
 * ReplayOverlay. First all changes are collected (inodes, maps, names: a later one may undo an earlier one), then what
 * came out is written. What the kernel's replay leaves wrong, this does not: link counts of directories, and the
 * blocks of directories that grew (e2fsck says so of file systems that the kernel replayed).
 */
import type { VolumeOptions } from '../contract.ts';
import { isDots } from '../directory-entry.ts';
import { Directories } from '../directory.ts';
import { corrupt, unsupported } from '../errors.ts';
import { InodeFlag, inodeChecksumSeed } from '../loaded-inode.ts';
import { openParts } from '../parts.ts';
import type { Parts } from '../parts.ts';
import type { FastChange, NameChange } from './fast-commit.ts';
import { FreeBlocks } from './free-blocks.ts';
import type { ReplayOverlay } from './overlay.ts';
import { adjustCounts } from './replayed-counts.ts';
import { editDirectory, keyOf, startDirectory } from './replayed-directory.ts';
import type { EditedDirectory, NameEdit } from './replayed-directory.ts';
import { ReplayedInode } from './replayed-inode.ts';
import type { ReplayedMap } from './replayed-map.ts';
import { bytesPerUnit, tooMuch, WorkBudget } from './work-budget.ts';

const rootInode = 2;
const directoryLinksMax = 65_000;
const logicalBlocksMax = 2 ** 32;
const inodesMaxBytes = 64 * 1024 * 1024;

/**
 * Changes the overlay to what it is after these changes. Throws EUCLEAN for changes that cannot be, EOPNOTSUPP, by
 * name, for what cannot be replayed exactly.
 */
export function replayFastCommits(
  overlay: ReplayOverlay,
  options: VolumeOptions,
  changes: readonly FastChange[],
): void {
  const replay = new FastReplay(overlay, options, changes);
  for (const change of changes) replay.apply(change);
  replay.write();
}

class FastReplay {
  readonly #overlay: ReplayOverlay;
  readonly #parts: Parts;
  readonly #directories: Directories;
  readonly #free: FreeBlocks;
  readonly #budget = new WorkBudget();
  readonly #inodes = new Map<number, ReplayedInode>();
  /** By directory, then by name. */
  readonly #names = new Map<number, Map<string, NameEdit>>();

  constructor(overlay: ReplayOverlay, options: VolumeOptions, changes: readonly FastChange[]) {
    this.#overlay = overlay;
    this.#parts = openParts(overlay, options);
    const { blockSizeBytes } = this.#parts.image.superblock;
    const { image } = this.#parts;
    this.#directories = new Directories(image, () =>
      this.#budget.spend(blockSizeBytes / bytesPerUnit),
    );
    const given = changes.filter((change) => change.kind === 'add-range');
    this.#free = new FreeBlocks(this.#parts, this.#budget, given);
  }

  apply(change: FastChange): void {
    switch (change.kind) {
      case 'inode':
        this.#inode(change.inode).become(change.raw);
        break;
      case 'create':
        this.#create(change);
        break;
      case 'link':
        if (this.#inode(change.inode).isUsed) this.#link(change);
        break;
      case 'unlink':
        if (this.#inode(change.inode).isUsed) this.#unlink(change);
        break;
      case 'add-range':
        this.#checkRange(change);
        this.#checkPlace(change);
        this.#fileMap(change.inode)?.set(change);
        break;
      case 'remove-range':
        this.#checkRange(change);
        this.#fileMap(change.inode)?.remove(change.logicalBlock, change.blockCount);
        break;
    }
  }

  /** Writes everything into the overlay. */
  write(): void {
    const { superblock } = this.#parts.image;
    // Those that were made, and those that others were changed in.
    for (const inode of this.#inodes.values()) {
      if (!inode.isUsed || !inode.isDirectory) continue;
      if (inode.startsBelow !== undefined || this.#names.has(inode.number)) this.#writeNames(inode);
    }
    let sectors = 0;
    let inodes = 0;
    const used: number[] = [];
    for (const inode of this.#inodes.values()) {
      inode.write(this.#overlay, () => this.#free.take());
      sectors += inode.freedSectors;
      inodes += inode.freedInodes;
      if (inode.exists) used.push(inode.number);
    }
    const clusters = Math.trunc((sectors * 512) / superblock.clusterSizeBytes);
    adjustCounts(this.#overlay, this.#parts, { clusters, inodes, used });
  }

  #writeNames(inode: ReplayedInode): void {
    const { image } = this.#parts;
    const { superblock } = image;
    const { sizeBytes } = inode;
    const directory: EditedDirectory = {
      image,
      overlay: this.#overlay,
      before: inode.startsBelow === undefined ? inode.before : undefined,
      map: inode.changeableMap(),
      checksumSeed: inodeChecksumSeed(superblock, inode.number, inode.generation),
      sizeBytes,
      indexed: (inode.flags & InodeFlag.index) !== 0,
      allocate: () => this.#free.take(),
      budget: this.#budget,
    };
    if (inode.startsBelow !== undefined) startDirectory(directory, inode.number, inode.startsBelow);
    editDirectory(directory, this.#names.get(inode.number)?.values() ?? []);
    const grownBytes = directory.sizeBytes - sizeBytes;
    // A new block is a new cluster: what else is in it stays unused.
    const grownBlocks = grownBytes / superblock.blockSizeBytes;
    const sectors = (grownBlocks * superblock.clusterSizeBytes) / 512;
    inode.resize(directory.sizeBytes, sectors, directory.indexed);
  }

  /** EUCLEAN for numbers that no change may be about. */
  #inode(number: number): ReplayedInode {
    const known = this.#inodes.get(number);
    if (known !== undefined) return known;
    const { inodeCount, firstInode, inodeSizeBytes } = this.#parts.image.superblock;
    if (number > inodeCount || (number < firstInode && number !== rootInode)) {
      throw corrupt(`its journal has a fast commit of inode ${number}`);
    }
    if (this.#inodes.size * inodeSizeBytes >= inodesMaxBytes) throw tooMuch();
    const inode = new ReplayedInode(this.#parts, this.#budget, number);
    this.#inodes.set(number, inode);
    return inode;
  }

  #checkRange({ logicalBlock, blockCount }: { logicalBlock: number; blockCount: number }): void {
    if (blockCount < 1 || logicalBlock + blockCount > logicalBlocksMax) {
      throw corrupt(`its journal has a fast commit of blocks from ${logicalBlock} on`);
    }
  }

  #checkPlace({ physicalBlock, blockCount }: { physicalBlock: number; blockCount: number }): void {
    const { firstDataBlock, blockCount: count } = this.#parts.image.superblock;
    if (physicalBlock <= firstDataBlock || physicalBlock + blockCount > count) {
      throw corrupt(`its journal has a fast commit of block ${physicalBlock}`);
    }
  }

  /** undefined: there is no such file any more, as when it was deleted later on. */
  #fileMap(number: number): ReplayedMap | undefined {
    const inode = this.#inode(number);
    if (!inode.isUsed) return undefined;
    if (inode.isDirectory) throw corrupt(`its journal has a fast commit of directory ${number}`);
    return inode.changeableMap();
  }

  /** Its inode comes first, and for a file the map, too. */
  #create(change: NameChange): void {
    const inode = this.#inode(change.inode);
    if (!inode.exists) throw corrupt(`its journal creates inode ${change.inode} without content`);
    // It lost its name again before the commit, and was still open.
    if (!inode.isUsed) return;
    if (inode.isDirectory) {
      this.#names.delete(change.inode);
      inode.startAsDirectory(change.parent);
    }
    this.#link(change);
    if (!inode.isDirectory) inode.links = 1;
  }

  #link(change: NameChange): void {
    const place = this.#place(change);
    // It was there already: written by a replay that did not get to its end.
    if (place === undefined || place.current !== undefined) return;
    const inode = this.#inode(change.inode);
    place.set({ inode: change.inode, typeCode: inode.typeCode });
    if (!inode.isDirectory) {
      inode.links += 1;
      return;
    }
    if (inode.parent(this.#directories) !== change.parent) {
      throw unsupported(
        'The fast commits of the journal move a directory to another one, which Ebb does not replay. ' +
          'Run e2fsck on the image, or read it without them: -o nofastcommit',
      );
    }
    inode.names += 1;
    this.#countDirectory(change.parent, 1);
  }

  #unlink(change: NameChange): void {
    const place = this.#place(change);
    if (place?.current === undefined) return;
    const inode = this.#inode(change.inode);
    // Under that name there may be another one by now.
    if (place.current === change.inode) place.set(undefined);
    if (!inode.isDirectory) {
      inode.links -= 1;
      if (inode.links === 0) inode.free();
      return;
    }
    inode.names -= 1;
    this.#countDirectory(change.parent, -1);
    if (inode.names === 0) inode.free();
  }

  #countDirectory(parent: number, by: 1 | -1): void {
    const inode = this.#inode(parent);
    // 1: too many to count (dir_nlink).
    if (inode.links < 2) return;
    inode.links = inode.links + by > directoryLinksMax ? 1 : Math.max(inode.links + by, 2);
  }

  /** What a directory has under a name now, and what it shall have; undefined when the directory is gone. */
  #place({ parent, name }: NameChange): NamePlace | undefined {
    const directory = this.#inode(parent);
    if (!directory.isUsed) return undefined;
    if (!directory.isDirectory) throw corrupt(`its journal has names in inode ${parent}`);
    if (name.includes(0x2f) || name.includes(0) || isDots(name)) {
      throw corrupt(`its journal gives directory ${parent} a name that cannot be one`);
    }
    directory.mustHavePlainNames();
    const edit = this.#names.get(parent)?.get(keyOf(name));
    let existed = edit?.existed ?? false;
    let current = edit?.entry?.inode;
    if (edit === undefined && directory.startsBelow === undefined) {
      current = this.#directories.lookup(directory.before, name)?.inodeNumber;
      existed = current !== undefined;
    }
    return {
      current,
      set: (entry) => {
        let edits = this.#names.get(parent);
        if (edits === undefined) this.#names.set(parent, (edits = new Map<string, NameEdit>()));
        edits.set(keyOf(name), { name, existed, entry });
      },
    };
  }
}

interface NamePlace {
  /** The inode that is there. */
  readonly current: number | undefined;
  set(entry: NameEdit['entry']): void;
}
