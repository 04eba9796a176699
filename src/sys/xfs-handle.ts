/**
 * Invisible I/O of XFS: a file opened by its XFS handle is read and written without moving atime, mtime or ctime
 * (FMODE_NOCMTIME; fs/xfs/xfs_handle.c). Truncating and fallocate(2) through it do move them. No other file system has
 * it.
 *
 * Needs CAP_SYS_ADMIN. The file belongs to the mount of the descriptor that the request is made on: it must be
 * writable for opening for writing (EROFS), its marks of fanotify(7) count, and opening raises events as any open does.
 */
import { ebbError } from '../base/errors.ts';
import { OwnedFd, setCloseOnExec } from './fd.ts';
import { addressOf, orThrow } from './ffi.ts';
import type { FileHandle } from './handle.ts';
import { IoctlRequest, ioctlBytes } from './ioctl.ts';

/** struct xfs_handle { u64 fsid; u16 fid_len; u16 fid_pad; u32 fid_gen; u64 fid_ino; }. */
const handleBytes = 24;
/**
 * struct xfs_fsop_handlereq of 64-bit Linux: u32 fd 0, pointer path 8, u32 oflags 16, pointer ihandle 24, u32 ihandlen
 * 32, pointer ohandle 40, pointer ohandlen 48; 56 bytes.
 */
const handleAt = 56;
const lengthAt = handleAt + handleBytes;

/** The structure, and behind it what its pointers lead to. */
function newRequest(): { bytes: Uint8Array<ArrayBuffer>; view: DataView; address: bigint } {
  const bytes = new Uint8Array(lengthAt + 4);
  return { bytes, view: new DataView(bytes.buffer), address: addressOf(bytes) };
}

/**
 * XFS_IOC_FD_TO_HANDLE: 24 bytes that name the inode (with its generation) of an open file (not O_PATH) for as long as
 * the file system lives. Throws ENOTTY on other file systems.
 */
export function xfsHandleOf(fd: number): Uint8Array<ArrayBuffer> {
  const { bytes, view, address } = newRequest();
  view.setUint32(0, fd, true);
  view.setBigUint64(40, address + BigInt(handleAt), true);
  view.setBigUint64(48, address + BigInt(lengthAt), true);
  const result = ioctlBytes(fd, IoctlRequest.xfsFdToHandle, bytes);
  orThrow(result, 'ioctl(XFS_IOC_FD_TO_HANDLE)', `descriptor ${fd}`);
  if (view.getUint32(lengthAt, true) !== handleBytes)
    throw ebbError('EOVERFLOW', 'An XFS handle has an unknown size.');
  return bytes.slice(handleAt, handleAt + handleBytes);
}

/**
 * XFS_IOC_OPEN_BY_HANDLE: opens that inode for invisible I/O in the mount of `directoryFd` (a directory of the same
 * file system, not O_PATH). `flags`: `OpenFlag` access mode. Throws ENOENT or ESTALE when it is gone, ENOTDIR when
 * `directoryFd` is no directory, EPERM, EROFS.
 */
export function openXfsHandle(directoryFd: number, handle: Uint8Array, flags: number): OwnedFd {
  if (handle.length !== handleBytes) throw ebbError('EINVAL', 'An XFS handle has 24 bytes.');
  const { bytes, view, address } = newRequest();
  bytes.set(handle, handleAt);
  view.setUint32(16, flags, true);
  view.setBigUint64(24, address + BigInt(handleAt), true);
  view.setUint32(32, handleBytes, true);
  const fd = ioctlBytes(directoryFd, IoctlRequest.xfsOpenByHandle, bytes);
  const owned = new OwnedFd(
    orThrow(fd, 'ioctl(XFS_IOC_OPEN_BY_HANDLE)', `descriptor ${directoryFd}`),
  );
  // The kernel opens it without; a child that another thread starts just now may inherit it.
  setCloseOnExec(owned.fd);
  return owned;
}

/**
 * The XFS handle of the inode that a kernel handle (handle.ts) names, made up without opening it. `sibling`: the XFS
 * handle of any file of the same file system. Undefined for a kernel handle of an unknown type. The types are
 * FILEID_INO32_GEN, and the same with 64-bit inode numbers (fs/xfs/xfs_export.h).
 */
export function xfsHandleFrom(sibling: Uint8Array, handle: FileHandle): Uint8Array | undefined {
  const from = new DataView(handle.bytes.buffer, handle.bytes.byteOffset, handle.bytes.length);
  const isWide = handle.type === 0x81 && from.byteLength === 12;
  if (!isWide && !(handle.type === 1 && from.byteLength === 8)) return undefined;
  const bytes = Uint8Array.from(sibling);
  const view = new DataView(bytes.buffer);
  view.setUint32(12, from.getUint32(isWide ? 8 : 4, true), true);
  view.setBigUint64(
    16,
    isWide ? from.getBigUint64(0, true) : BigInt(from.getUint32(0, true)),
    true,
  );
  return bytes;
}
