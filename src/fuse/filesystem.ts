/**
 * The file system interface of `ebb/fuse`: one method per FUSE operation, named after the system
 * call.
 *
 * A method answers through its `Call`, exactly once, either before it returns or later (`defer`). A
 * method that returns without answering or deferring, or throws, is answered EIO by the session
 * (and reported). A method that is absent is answered ENOSYS, which the kernel remembers for the
 * connection (fuse(4): that is how a server says "never ask again").
 *
 * Calls of one session thread run one after the other. `Call` objects and every `Uint8Array`
 * argument are reused: they are valid until the method returns. Keep what `defer()` gives instead.
 * Numbers: node ids, file handles and `unique` are Numbers below 2^53 (larger ones are refused as
 * ENOSYS/EIO); `errno` arguments are positive.
 */

/** Mirrors struct fuse_attr; times split because Number cannot hold ns since 1970. */
export interface Attributes {
  ino: number;
  sizeBytes: number;
  /** 512-byte units, as st_blocks. */
  blocks: number;
  atimeSeconds: number;
  atimeNanoseconds: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  ctimeSeconds: number;
  ctimeNanoseconds: number;
  /** File type and permission bits, as st_mode. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  blockSizeBytes: number;
}

export interface Entry {
  /** 0 with `entryTimeoutMs` > 0 is a cached negative entry. */
  nodeId: number;
  /** 32 bits. */
  generation: number;
  entryTimeoutMs: number;
  attributeTimeoutMs: number;
  attributes: Attributes;
}

export interface FilesystemStatistics {
  blocks: number;
  blocksFree: number;
  blocksAvailable: number;
  files: number;
  filesFree: number;
  blockSizeBytes: number;
  nameMaxBytes: number;
  fragmentSizeBytes: number;
}

/**
 * Identifies a request that will be answered later, from any thread, through a `Replier` on the
 * same descriptor.
 */
export interface DeferredCall {
  readonly unique: number;
  /** Redelivered after FUSE_NOTIFY_RESEND: bit 63 of unique, echoed in the answer. */
  readonly resent: boolean;
}

/** A READDIR or READDIRPLUS answer under construction, bounded by the size the kernel asked for. */
export interface DirectoryBuffer {
  /**
   * Appends an entry. `nextOffset` is the cookie the kernel passes to continue after it (> 0).
   * Returns false, and appends nothing, when it does not fit: stop then.
   */
  add(name: Uint8Array, ino: number, mode: number, nextOffset: number): boolean;
  /**
   * READDIRPLUS only. An `entry` of undefined, or with nodeId 0, gives the name without attributes
   * (no lookup count).
   */
  addPlus(
    name: Uint8Array,
    ino: number,
    mode: number,
    nextOffset: number,
    entry: Entry | undefined,
  ): boolean;
}

/**
 * One request: who asks, and the ways to answer. Answer methods return false when the request was
 * gone (ENOENT).
 */
export interface Call {
  readonly opcode: number;
  readonly unique: number;
  readonly nodeId: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Redelivered after FUSE_NOTIFY_RESEND: a former server may have carried it out already. */
  readonly resent: boolean;
  /**
   * OPEN with O_TRUNC, CREATE, WRITE under HANDLE_KILLPRIV_V2: the caller may not keep set-user-id
   * bits, so the file system clears them (SETATTR says it with FATTR_KILL_SUIDGID).
   */
  readonly killSuidGid: boolean;
  defer(): DeferredCall;
  error(errno: number): boolean;
  /** Success without a body (UNLINK, RELEASE, FLUSH, ...). */
  ok(): boolean;
  entry(entry: Entry): boolean;
  attributes(attributes: Attributes, timeoutMs: number): boolean;
  /** OPEN, OPENDIR: `openFlags` are FOPEN_*; `backingId` with FOPEN_PASSTHROUGH. */
  opened(fileHandle: number, openFlags: number, backingId?: number): boolean;
  created(entry: Entry, fileHandle: number, openFlags: number, backingId?: number): boolean;
  /** READ, READLINK, GETXATTR/LISTXATTR with a buffer. */
  data(bytes: Uint8Array): boolean;
  /**
   * READ from an ordinary file: `lengthBytes` at `offset`, less only where that file ends. Fewer
   * than `minimumBytes` (default 0) are answered EIO instead of being filled up with zeros by the
   * kernel.
   */
  dataFromFile(
    fileDescriptor: number,
    offset: number,
    lengthBytes: number,
    minimumBytes?: number,
  ): boolean;
  /** GETXATTR/LISTXATTR with size 0: how large it is. */
  xattrSize(sizeBytes: number): boolean;
  /** WRITE, COPY_FILE_RANGE. */
  written(countBytes: number): boolean;
  statfs(statistics: FilesystemStatistics): boolean;
  /** LSEEK. */
  offset(offsetBytes: number): boolean;
  /** READDIR/READDIRPLUS: a buffer of the asked size; answer with `directoryDone`. */
  directory(): DirectoryBuffer;
  directoryDone(): boolean;
}

export interface ConnectionInfo {
  readonly kernelMinor: number;
  /** The flags both sides agreed on (constants.ts INIT flags, 64 bits). */
  readonly flags: bigint;
  readonly maxWriteBytes: number;
  readonly maxReadaheadBytes: number;
}

export interface SetAttributes {
  /** FATTR_* bits that say which fields count. */
  valid: number;
  fileHandle: number;
  sizeBytes: number;
  atimeSeconds: number;
  atimeNanoseconds: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  ctimeSeconds: number;
  ctimeNanoseconds: number;
  mode: number;
  uid: number;
  gid: number;
}

export interface FileSystem {
  init?(info: ConnectionInfo): void;
  destroy?(): void;
  lookup?(call: Call, parentId: number, name: Uint8Array): void;
  /** No answer. The kernel drops `count` references. */
  forget?(nodeId: number, count: number): void;
  getattr?(call: Call, nodeId: number, fileHandle: number | undefined): void;
  setattr?(call: Call, nodeId: number, change: SetAttributes): void;
  readlink?(call: Call, nodeId: number): void;
  symlink?(call: Call, parentId: number, name: Uint8Array, target: Uint8Array): void;
  mknod?(
    call: Call,
    parentId: number,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask: number,
  ): void;
  mkdir?(call: Call, parentId: number, name: Uint8Array, mode: number, umask: number): void;
  unlink?(call: Call, parentId: number, name: Uint8Array): void;
  rmdir?(call: Call, parentId: number, name: Uint8Array): void;
  rename?(
    call: Call,
    oldParentId: number,
    oldName: Uint8Array,
    newParentId: number,
    newName: Uint8Array,
    flags: number,
  ): void;
  link?(call: Call, nodeId: number, newParentId: number, newName: Uint8Array): void;
  open?(call: Call, nodeId: number, flags: number): void;
  read?(call: Call, nodeId: number, fileHandle: number, offset: number, sizeBytes: number): void;
  write?(call: Call, nodeId: number, fileHandle: number, offset: number, data: Uint8Array): void;
  statfs?(call: Call, nodeId: number): void;
  flush?(call: Call, nodeId: number, fileHandle: number, lockOwner: number): void;
  release?(call: Call, nodeId: number, fileHandle: number, flags: number): void;
  fsync?(call: Call, nodeId: number, fileHandle: number, dataOnly: boolean): void;
  setxattr?(call: Call, nodeId: number, name: Uint8Array, value: Uint8Array, flags: number): void;
  /** sizeBytes 0: answer `xattrSize`; else `data`, or ERANGE when it does not fit. */
  getxattr?(call: Call, nodeId: number, name: Uint8Array, sizeBytes: number): void;
  listxattr?(call: Call, nodeId: number, sizeBytes: number): void;
  removexattr?(call: Call, nodeId: number, name: Uint8Array): void;
  opendir?(call: Call, nodeId: number, flags: number): void;
  readdir?(call: Call, nodeId: number, fileHandle: number, offset: number, plus: boolean): void;
  releasedir?(call: Call, nodeId: number, fileHandle: number): void;
  fsyncdir?(call: Call, nodeId: number, fileHandle: number, dataOnly: boolean): void;
  access?(call: Call, nodeId: number, mask: number): void;
  create?(
    call: Call,
    parentId: number,
    name: Uint8Array,
    flags: number,
    mode: number,
    umask: number,
  ): void;
  /** O_TMPFILE: as `create`, without a name. */
  tmpfile?(call: Call, parentId: number, flags: number, mode: number, umask: number): void;
  fallocate?(
    call: Call,
    nodeId: number,
    fileHandle: number,
    mode: number,
    offset: number,
    lengthBytes: number,
  ): void;
  lseek?(call: Call, nodeId: number, fileHandle: number, offset: number, whence: number): void;
  copyFileRange?(
    call: Call,
    nodeId: number,
    fileHandle: number,
    offset: number,
    outNodeId: number,
    outFileHandle: number,
    outOffset: number,
    lengthBytes: number,
    flags: number,
  ): void;
  /** Answer to `Notifier.retrieve`: cached pages. No answer. */
  retrieved?(notifyUnique: number, nodeId: number, offset: number, data: Uint8Array): void;
  /**
   * The requester of `unique` wants to go on. Answer the *original* EINTR if it is still pending;
   * no answer itself.
   */
  interrupt?(unique: number): void;
  /**
   * Called by the session thread after its wake-up descriptor fired (another thread called `wake`):
   * the place to take in messages from other threads.
   */
  wakeup?(): void;
  /** Before the method of each request that has an answer. When it throws, that is answered EIO and reported. */
  admit?(call: Call): void;
  /** After it, answered or deferred; after messages without an answer, too. */
  admitted?(): void;
}
