/**
 * Kernel file handles, open_by_handle_at(2): the identity of an inode. A handle carries the inode's
 * generation, so a reused inode number is another handle; it survives renames and remounts.
 */
import { ebbError } from '../base/errors.ts';
import { AT_EMPTY_PATH, AT_FDCWD, OpenFlag, OwnedFd } from './fd.ts';
import { bind, lastErrno, lazily, onlyCString, orThrow, systemError } from './ffi.ts';

/** MAX_HANDLE_SZ of linux/exportfs.h. */
const handleMaxBytes = 128;
/** struct file_handle { u32 handle_bytes; i32 handle_type; u8 f_handle[]; }. */
const typeAt = 4;
const headerBytes = 8;

export interface FileHandle {
  /** The file system's own type number; 32 bits, signed. */
  readonly type: number;
  /** 1 .. 128 bytes that only the file system understands. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const native = lazily(() => ({
  nameToHandle: bind<
    (
      dir: number,
      path: Uint8Array,
      handle: Uint8Array,
      mountId: Int32Array,
      flags: number,
    ) => number
  >('int name_to_handle_at(int dirfd, const void *path, void *handle, void *mount_id, int flags)'),
  openByHandle: bind<(mountFd: number, handle: Uint8Array, flags: number) => number>(
    'int open_by_handle_at(int mount_fd, void *handle, int flags)',
  ),
}));

/**
 * The handle of an open file or directory (a number), or of what a path names (a final symlink is
 * not followed), and the mount it was reached through (as in /proc/self/mountinfo). Throws
 * EOPNOTSUPP where the file system has none.
 */
export function handleOf(target: number | string): { handle: FileHandle; mountId: number } {
  return typeof target === 'number'
    ? askHandle(target, '', AT_EMPTY_PATH)
    : askHandle(AT_FDCWD, target, 0);
}

/** The handle of an entry of an open directory; a symlink is not followed. Throws ENOENT, EOPNOTSUPP, ... */
export function handleAt(directoryFd: number, name: string | Uint8Array): FileHandle {
  return askHandle(directoryFd, name, 0).handle;
}

/** The same as `encodeHandle` makes it, with fewer steps: for walks over a million files. */
export function encodedHandleAt(
  directoryFd: number,
  name: string | Uint8Array,
): Uint8Array<ArrayBuffer> {
  return answer.slice(typeAt, headerBytes + nameToHandle(directoryFd, name, 0));
}

function askHandle(
  directoryFd: number,
  path: string | Uint8Array,
  flags: number,
): { handle: FileHandle; mountId: number } {
  const length = nameToHandle(directoryFd, path, flags);
  return {
    handle: {
      type: answerView.getInt32(typeAt, true),
      bytes: answer.slice(headerBytes, headerBytes + length),
    },
    mountId: mountIdAnswer[0] as number,
  };
}

/** struct file_handle. One for all calls of this thread: it is decoded before the next one. */
const answer = new Uint8Array(headerBytes + handleMaxBytes);
const answerView = new DataView(answer.buffer);
const mountIdAnswer = new Int32Array(1);

/** Fills `answer` and `mountIdAnswer`; returns the handle's length. */
function nameToHandle(directoryFd: number, path: string | Uint8Array, flags: number): number {
  answerView.setUint32(0, handleMaxBytes, true);
  const name = onlyCString(path);
  const result = native().nameToHandle(directoryFd, name, answer, mountIdAnswer, flags);
  if (result < 0) {
    const errno = lastErrno();
    const subject = typeof path === 'string' ? path : Buffer.from(path).toString();
    throw systemError(
      errno,
      'name_to_handle_at',
      flags === 0 ? subject : `descriptor ${directoryFd}`,
    );
  }
  return answerView.getUint32(0, true);
}

/**
 * Opens the inode. `mountFd`: any open file (not O_PATH) of the same file system. `flags`:
 * `OpenFlag` bits. Throws ESTALE when the inode is gone or was reused, EPERM without
 * CAP_DAC_READ_SEARCH, EINVAL for garbage.
 */
export function openByHandle(mountFd: number, handle: FileHandle, flags: number): OwnedFd {
  checkLength(handle.bytes.length);
  const memory = new Uint8Array(headerBytes + handle.bytes.length);
  const view = new DataView(memory.buffer);
  view.setUint32(0, handle.bytes.length, true);
  view.setInt32(4, handle.type, true);
  memory.set(handle.bytes, headerBytes);
  const fd = native().openByHandle(mountFd, memory, flags | OpenFlag.cloexec);
  return new OwnedFd(orThrow(fd, 'open_by_handle_at'));
}

/** For storing: the type (32 bits, little-endian), then the bytes. */
export function encodeHandle(handle: FileHandle): Uint8Array<ArrayBuffer> {
  checkLength(handle.bytes.length);
  const encoded = new Uint8Array(4 + handle.bytes.length);
  new DataView(encoded.buffer).setInt32(0, handle.type, true);
  encoded.set(handle.bytes, 4);
  return encoded;
}

/** Inverse of `encodeHandle`. Throws EINVAL for what is too short or too long. */
export function decodeHandle(encoded: Uint8Array): FileHandle {
  checkLength(encoded.length - 4);
  const view = new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  return { type: view.getInt32(0, true), bytes: new Uint8Array(encoded.subarray(4)) };
}

function checkLength(lengthBytes: number): void {
  if (lengthBytes >= 1 && lengthBytes <= handleMaxBytes) return;
  throw ebbError('EINVAL', `A file handle has 1 to ${handleMaxBytes} bytes, not ${lengthBytes}.`);
}
