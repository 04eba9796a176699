/**
 * INIT: what the kernel offers and the file system wants becomes what the connection does. Pure.
 *
 * Only what is wanted *and* offered is switched on, and nothing that this library does not carry
 * out: locks over the wire, DAX, id-mapped mounts, security contexts and io_uring are
 * never asked for. WRITEBACK_CACHE neither: the kernel would own sizes and times, and it silently
 * disables PASSTHROUGH.
 */
import {
  InitFlag,
  pageSizeBytes,
  pagesPerRequestDefault,
  protocolMajor,
  protocolMinor,
  protocolMinorMinimum,
} from './constants.ts';
import type { ConnectionInfo } from './filesystem.ts';

export interface NegotiationOptions {
  /** Largest WRITE and READ, if fs.fuse.max_pages_limit allows; 4096 .. 16 MiB, default 1 MiB. */
  readonly maxWriteBytes?: number;
  /** Upper bound of read-ahead; the kernel's own is 128 KiB (see `setReadAhead`). Default 1 MiB. */
  readonly maxReadaheadBytes?: number;
  /**
   * Requests that the kernel queues in the background (read-ahead, async direct I/O). Default 64.
   */
  readonly maxBackground?: number;
  /** From how many background requests on the kernel calls the mount congested. Default 48. */
  readonly congestionThreshold?: number;
  /** READDIRPLUS: `auto` (default) uses it where a program looks at the attributes, too. */
  readonly readdirplus?: 'auto' | 'always' | 'never';
  /** Lookups of `.` and `..` by node id: file handles of forgotten nodes, NFS. Default false. */
  readonly exportSupport?: boolean;
  /** Opens may answer FOPEN_PASSTHROUGH; needs CAP_SYS_ADMIN for the backings. Default false. */
  readonly passthrough?: boolean;
  /** The file system clears set-user-id bits itself where `killSuidGid` says so. Default false. */
  readonly handleKillPriv?: boolean;
  /** O_TRUNC arrives with OPEN instead of as a SETATTR of its own. Default false. */
  readonly atomicTruncate?: boolean;
  /**
   * `automatic` (default): the kernel drops cached pages when it sees another mtime or size.
   * `explicit`: only the `Notifier` does; for file systems where a node's content never changes
   * behind the kernel.
   */
  readonly dataInvalidation?: 'automatic' | 'explicit';
  /** The kernel keeps what READLINK answered. Default false. */
  readonly cacheSymlinks?: boolean;
  /**
   * OPEN and RELEASE, or OPENDIR and RELEASEDIR, are not wanted: answer the first one with ENOSYS where the flag was
   * agreed on. The kernel then keeps cached pages and listings, and sends the handle 0. Default false.
   */
  readonly noOpen?: boolean;
  readonly noOpendir?: boolean;
  /** The file system applies the umask itself. Default false. */
  readonly ownUmask?: boolean;
  /**
   * The kernel asks for system.posix_acl_access and _default and enforces what they say (it implies
   * `default_permissions`). Default false.
   */
  readonly posixAcls?: boolean;
  /**
   * How many layers may lie under a backing of passthrough. 1 (default): it is on an ordinary file system, and this
   * mount may still be an overlay's lower layer. 2: it may itself be on a stacked one.
   */
  readonly maxStackDepth?: 1 | 2;
}

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadaheadBytes: number;
  readonly flags: bigint;
}

export interface InitAnswer {
  readonly minor: number;
  readonly flags: bigint;
  readonly maxReadaheadBytes: number;
  readonly maxWriteBytes: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxPages: number;
  readonly maxStackDepth: number;
}

export type Negotiation =
  | { readonly kind: 'agreed'; readonly answer: InitAnswer; readonly info: ConnectionInfo }
  /** The kernel speaks a newer major version and will send INIT again. */
  | { readonly kind: 'other-major' }
  | { readonly kind: 'refused'; readonly why: string };

const maxWriteDefaultBytes = 1024 * 1024;
const maxWriteMaximumBytes = 16 * 1024 * 1024;
const maxReadaheadDefaultBytes = 1024 * 1024;
const maxBackgroundDefault = 64;
const congestionThresholdDefault = 48;

/** What costs nothing to serve: taken whenever it is offered. */
const always =
  InitFlag.ASYNC_READ |
  InitFlag.BIG_WRITES |
  InitFlag.MAX_PAGES |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.ASYNC_DIO |
  InitFlag.ABORT_ERROR |
  InitFlag.HAS_RESEND |
  InitFlag.INIT_EXT;

/** The flags that `options` ask for. */
export function wantedFlags(options: NegotiationOptions): bigint {
  let flags = always;
  const readdirplus = options.readdirplus ?? 'auto';
  if (readdirplus !== 'never') flags |= InitFlag.DO_READDIRPLUS;
  if (readdirplus === 'auto') flags |= InitFlag.READDIRPLUS_AUTO;
  if (options.exportSupport === true) flags |= InitFlag.EXPORT_SUPPORT;
  if (options.passthrough === true) flags |= InitFlag.PASSTHROUGH;
  if (options.handleKillPriv === true) flags |= InitFlag.HANDLE_KILLPRIV_V2;
  if (options.atomicTruncate === true) flags |= InitFlag.ATOMIC_O_TRUNC;
  if (options.cacheSymlinks === true) flags |= InitFlag.CACHE_SYMLINKS;
  if (options.ownUmask === true) flags |= InitFlag.DONT_MASK;
  if (options.posixAcls === true) flags |= InitFlag.POSIX_ACL;
  if (options.noOpen === true) flags |= InitFlag.NO_OPEN_SUPPORT;
  if (options.noOpendir === true) flags |= InitFlag.NO_OPENDIR_SUPPORT;
  flags |=
    options.dataInvalidation === 'explicit'
      ? InitFlag.EXPLICIT_INVAL_DATA
      : InitFlag.AUTO_INVAL_DATA;
  return flags;
}

/** `maxWriteBytes` of the options in whole pages, within what INIT can say. */
export function requestPages(options: NegotiationOptions): number {
  const wanted = options.maxWriteBytes ?? maxWriteDefaultBytes;
  const bytes = Math.min(Math.max(wanted, pageSizeBytes), maxWriteMaximumBytes);
  return Math.ceil(bytes / pageSizeBytes);
}

/** The largest answer that READ or READDIR may ask for, whatever the kernel makes of INIT. */
export function largestAnswerBytes(options: NegotiationOptions): number {
  return Math.max(requestPages(options), pagesPerRequestDefault) * pageSizeBytes;
}

/** Decides what to answer to INIT. */
export function negotiate(request: InitRequest, options: NegotiationOptions): Negotiation {
  if (request.major > protocolMajor) return { kind: 'other-major' };
  if (request.major < protocolMajor || request.minor < protocolMinorMinimum) {
    const spoken = `${request.major}.${request.minor}`;
    const needed = `${protocolMajor}.${protocolMinorMinimum}`;
    return { kind: 'refused', why: `the kernel speaks FUSE ${spoken}, ${needed} is needed` };
  }
  const offered =
    (request.flags & InitFlag.INIT_EXT) === 0n ? BigInt.asUintN(32, request.flags) : request.flags;
  const flags = wantedFlags(options) & offered;
  const pages =
    (flags & InitFlag.MAX_PAGES) === 0n ? pagesPerRequestDefault : requestPages(options);
  const maxWriteBytes = pages * pageSizeBytes;
  const maxReadaheadBytes = Math.min(
    request.maxReadaheadBytes,
    options.maxReadaheadBytes ?? maxReadaheadDefaultBytes,
  );
  const answer: InitAnswer = {
    minor: Math.min(request.minor, protocolMinor),
    flags,
    maxReadaheadBytes,
    maxWriteBytes,
    maxBackground: options.maxBackground ?? maxBackgroundDefault,
    congestionThreshold: options.congestionThreshold ?? congestionThresholdDefault,
    maxPages: pages,
    maxStackDepth: (flags & InitFlag.PASSTHROUGH) === 0n ? 0 : (options.maxStackDepth ?? 1),
  };
  const info = { kernelMinor: request.minor, flags, maxWriteBytes, maxReadaheadBytes };
  return { kind: 'agreed', answer, info };
}
