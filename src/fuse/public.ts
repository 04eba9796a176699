/** The library `ebb/fuse`: a FUSE server for Node without libfuse. See docs/fuse-library.md. */
export type {
  Attributes,
  Call,
  ConnectionInfo,
  DeferredCall,
  DirectoryBuffer,
  Entry,
  FileSystem,
  FilesystemStatistics,
  SetAttributes,
} from './filesystem.ts';
export { plainAttributes } from './attributes.ts';
export { Errno, errnoMessage, errnoName } from '../base/errno.ts';
export { EbbError } from '../base/errors.ts';
export { decodeName, encodeName } from '../base/name.ts';
export {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_LOCKOWNER,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_NONSEEKABLE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FOPEN_PASSTHROUGH,
  FOPEN_STREAM,
  InitFlag,
  initFlagNames,
  Opcode,
  opcodeName,
  rootNodeId,
} from './constants.ts';
export {
  abortConnection,
  Connection,
  mountPrivileged,
  mountUnprivileged,
  setReadAhead,
  unmount,
} from './connection.ts';
export type { MountOptions, UnmountOptions } from './connection.ts';
export { LoopControl } from '../sys/loop-control.ts';
export type { SharedLoopControl } from '../sys/loop-control.ts';
export { deviceTransport } from './device.ts';
export { InterruptLog } from './interrupts.ts';
export { runLoop } from './loop.ts';
export type { LoopEnd } from './loop.ts';
export type { NegotiationOptions } from './negotiation.ts';
export { encodeInvalidateEntry, encodeInvalidateInode, Notifier } from './notifier.ts';
export { Replier } from './replier.ts';
export { Session } from './session.ts';
export type { SessionOptions, SessionProblem } from './session.ts';
export { FuseThreads } from './thread.ts';
export type { FuseThreadsOptions } from './thread.ts';
export type { CreateFileSystem, FileSystemContext } from './thread-main.ts';
export type { Transport } from './transport.ts';
export { fuseBackingClose, fuseBackingOpen } from '../sys/ioctl.ts';
