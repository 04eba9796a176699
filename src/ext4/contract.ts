/**
 * What a reader of ext2, ext3 and ext4 offers: plain facts, no views into its caches. Numbers are
 * exact (below 2^53); names and attribute values are bytes, because Linux does not say more of them.
 *
 * Everything throws EbbError and nothing else: EUCLEAN when the image contradicts itself, EOPNOTSUPP
 * for what Ebb does not know, EIO when bytes cannot be read, ENOKEY for encrypted content, and the
 * errno that the system call would give for a wrong request (ENOTDIR, EISDIR, EINVAL).
 */

export type FileType =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'character'
  | 'block'
  | 'fifo'
  | 'socket'
  /** Only in directory entries, of file systems without the feature filetype. */
  | 'unknown';

/** Since 1970, negative before; 0 <= nanoseconds < 10^9. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

export interface SuperblockFacts {
  readonly blockSizeBytes: number;
  readonly blockCount: number;
  readonly inodeCount: number;
  readonly groupCount: number;
  readonly blocksPerGroup: number;
  readonly inodesPerGroup: number;
  readonly inodeSizeBytes: number;
  /** Inodes below this one are the file system's own; 2 is the root. */
  readonly firstInode: number;
  /** Unit of allocation: the block size, more with the feature bigalloc. */
  readonly clusterSizeBytes: number;
  /** By the names of dumpe2fs: `extent`, `64bit`, `metadata_csum`, ... */
  readonly features: ReadonlySet<string>;
  /** Set feature bits that Ebb has no name for and that allow reading. */
  readonly unknownReadOnlyFeatures: readonly string[];
  /** In lower-case text form. */
  readonly uuid: string;
  /** Volume name; bytes that are not UTF-8 become U+FFFD. */
  readonly label: string;
  /**
   * The journal holds changes that are not in place yet: read through a replay overlay. Of a backup
   * this may be old: then the journal itself must be looked at.
   */
  readonly needsRecovery: boolean;
  /** Inode of the journal, 0 when there is none or it is on another device. */
  readonly journalInode: number;
  /** The kernel recorded an error, or the file system was not unmounted. */
  readonly state: 'clean' | 'not-unmounted' | 'errors';
  /** The primary superblock was unusable: which backup is used instead, and why. */
  readonly backup: { readonly blockNumber: number; readonly reason: string } | undefined;
}

export interface Inode {
  /** 1 <= number <= inodeCount. */
  readonly number: number;
  /** With the number: an identity over time. */
  readonly generation: number;
  readonly type: Exclude<FileType, 'unknown'>;
  /** st_mode: type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** 1 for a directory whose links were not counted any more (dir_nlink). */
  readonly linkCount: number;
  readonly sizeBytes: number;
  /** st_blocks: units of 512 bytes. */
  readonly allocatedSectors: number;
  readonly accessTime: Timestamp;
  readonly modificationTime: Timestamp;
  readonly changeTime: Timestamp;
  /** undefined when the inode is too small to hold one. */
  readonly birthTime: Timestamp | undefined;
  /** Of character and block devices. */
  readonly device: { readonly major: number; readonly minor: number } | undefined;
  /** EXT4_*_FL as stored (chattr(1)). */
  readonly flags: number;
  readonly projectId: number;
  /** i_version. */
  readonly version: number;
  /** Content (and names, of a directory) are encrypted: reading gives ENOKEY. */
  readonly encrypted: boolean;
  /** Sealed by fs-verity; the content is read, its tree is not checked. */
  readonly verity: boolean;
  /** Names are compared case-insensitively (a directory of a file system with casefold). */
  readonly casefold: boolean;
  /** The content is in the inode itself: there are no extents. */
  readonly inlineData: boolean;
}

/** A run of blocks of a file. What lies between two runs is a hole. */
export interface Extent {
  /** In blocks of the file. */
  readonly logicalBlock: number;
  /** In blocks of the file system. */
  readonly physicalBlock: number;
  /** >= 1 */
  readonly blockCount: number;
  /** Allocated but never written: reads as zeros. */
  readonly unwritten: boolean;
}

/** Blocks of one kind that follow each other. */
export interface Run {
  /** undefined is a hole. */
  readonly physicalBlock: number | undefined;
  /** >= 1, from the block that was asked for on. */
  readonly blockCount: number;
  readonly unwritten: boolean;
}

export interface ExtentsOptions {
  readonly pastEnd?: boolean;
  /** In blocks of the file. Default 0. */
  readonly fromBlock?: number;
}

export interface DirectoryEntry {
  /** 1 to 255 bytes without '/' and NUL, never "." or "..". */
  readonly name: Uint8Array;
  readonly inodeNumber: number;
  /** As the directory says; `child` checks it against the inode. */
  readonly type: FileType;
  /** Continue after this entry: give it to `entries`. > 2, rising within a directory, stable. */
  readonly cookie: number;
}

export interface ExtendedAttribute {
  /** With its prefix, as listxattr(2) gives it. */
  readonly name: Uint8Array;
  /** As getxattr(2) gives it; ACLs in version 2 of the xattr ABI. */
  readonly value: Uint8Array;
}

export interface FileSizes {
  readonly files: number;
  /** Of those of `largeMinBytes` and more, together. Holes count. */
  readonly largeBytes: number;
}

/** As statfs(2); blocks of `blockSizeBytes`. */
export interface FilesystemStatistics {
  readonly blockSizeBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  /** Free to users that are not privileged. */
  readonly availableBlocks: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly nameMaxBytes: number;
  /** Two halves of f_fsid. */
  readonly fsid: readonly [number, number];
}

export interface VolumeOptions {
  /** Metadata kept in memory. Default 32 MiB; at least 1 MiB. */
  readonly blockCacheMaxBytes?: number;
  /** Decoded inodes kept in memory. Default 65,536. */
  readonly inodeCacheMax?: number;
  /** Verify metadata checksums where the file system has them. Default true. */
  readonly verifyChecksums?: boolean;
}

/**
 * An open image, read only. Not concurrent: one call at a time; generators may be left unfinished
 * and may be interleaved. The image must not change while the volume is open.
 */
export interface Volume {
  readonly superblock: SuperblockFacts;

  statfs(): FilesystemStatistics;

  /** The root directory: inode 2. */
  root(): Inode;

  /**
   * Any inode by its number, reserved ones (the journal) included. EUCLEAN when it is damaged, ENOENT
   * when it is not in use, EINVAL when there is no such number.
   */
  inode(number: number): Inode;

  /**
   * The inode that an entry of `directory` names. EUCLEAN when it cannot be right: a reserved or
   * free inode, another type than the entry says, a directory that was met under another name.
   */
  child(directory: Inode, entry: DirectoryEntry): Inode;

  /** One entry by name, undefined when there is none. Never "." and "..". */
  lookup(directory: Inode, name: Uint8Array): DirectoryEntry | undefined;

  /** Entries in a fixed order, without "." and "..": from the start (0) or after an entry's cookie. */
  entries(directory: Inode, afterCookie: number): Iterable<DirectoryEntry>;

  /** What ".." of a directory names. */
  parent(directory: Inode): number;

  /**
   * Reads a regular file. Returns the bytes read: all of `into`, or less at the end of the file.
   * Holes and unwritten extents are zeros. ENOKEY for encrypted files.
   */
  read(inode: Inode, offsetBytes: number, into: Uint8Array): number;

  /**
   * Where the content is, rising by logical block, up to the end of the file (`pastEnd`: also what is
   * allocated after it), from `fromBlock` on: an extent in which that lies begins there. None when the content is in
   * the inode (`inlineData`) or encrypted (ENOKEY).
   */
  extents(inode: Inode, options?: ExtentsOptions): Iterable<Extent>;

  /**
   * What is at one block of a file, and how far that goes: maybe over its end. All is a hole where `extents` has none.
   * One step of a walk, for who has to stop it: a hostile map can be very long, with nothing in it.
   */
  run(inode: Inode, logicalBlock: number): Run;

  /** EINVAL when it is not a symlink, ENOKEY when it is encrypted. */
  symlinkTarget(inode: Inode): Uint8Array;

  /** All extended attributes that Linux would list, in the order of the disk. */
  xattrs(inode: Inode): readonly ExtendedAttribute[];

  /** A hint that this part of a file will be read soon; never throws. */
  prefetchContent(inode: Inode, offsetBytes: number, lengthBytes: number): void;

  /**
   * Numbers of inodes that may have extended attributes; all others in use have none. undefined where
   * finding out would cost too much, or the image is not clean enough to believe its counts.
   */
  attributedInodes(): number[] | undefined;

  /** What files there are, by the sizes that they have in a clean image. undefined as for `attributedInodes`. */
  fileSizes(largeMinBytes: number): FileSizes | undefined;

  /** A hint that these inodes will be asked for soon; never throws. */
  prefetchInodes(numbers: Iterable<number>): void;
}
