/**
 * getdents64(2). node:fs's opendir asks for the attributes of entries whose kind the file system does not tell
 * (DT_UNKNOWN: ext4 without `filetype`, NFS in large directories, many FUSE file systems), in the thread that asked and
 * before it gives any name: a network that hangs would hold up everybody, and an entry that went meanwhile ends it.
 */
import { ebbError } from '../base/errors.ts';
import { Semaphore } from '../base/semaphore.ts';
import { bindAsync, lazily, systemError } from './ffi.ts';

/** asm/unistd_64.h; asm-generic/unistd.h. */
const SYS_getdents64 = process.arch === 'arm64' ? 61 : 217;

/** DT_* of dirent.h; what is missing here has no use. */
export const DirectoryEntryType = { unknown: 0, directory: 4, file: 8, symlink: 10 } as const;

export interface DirectoryEntry {
  readonly name: Uint8Array;
  /** One of `DirectoryEntryType`, or of a pipe, socket or device. */
  readonly type: number;
}

const native = lazily(() => ({
  getdents64: bindAsync<[number: number, fd: number, into: Uint8Array, sizeBytes: number]>(
    'long syscall(long number, long fd, void *into, size_t size)',
  ),
}));

/** koffi refuses above 256 asynchronous calls; more than the pool has threads gains nothing. */
const calls = new Semaphore({ permits: 64, waitersMax: 65_536 });

/** struct linux_dirent64: inode (8), offset (8), length (2), type (1), name with a NUL behind it. */
const lengthAt = 16;
const typeAt = 18;
const nameAt = 19;
const dot = 0x2e;

/**
 * The next entries of an open directory, without `.` and `..`, as many as fit into `into`; undefined at the end. Runs
 * in the thread pool; `into` must stay untouched meanwhile, the names are copies. Rejects with ENOTDIR, EIO, ESTALE,
 * ENOENT (the directory itself was removed), EINVAL (`into` is too small for one entry).
 */
export async function readEntries(
  fd: number,
  into: Uint8Array,
): Promise<DirectoryEntry[] | undefined> {
  using _permit = await calls.acquire();
  const countBytes = await native().getdents64(SYS_getdents64, fd, into, into.byteLength);
  if (countBytes < 0) throw systemError(-countBytes, 'getdents', `descriptor ${fd}`);
  return countBytes === 0 ? undefined : parseEntries(into.subarray(0, countBytes));
}

function parseEntries(bytes: Uint8Array): DirectoryEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: DirectoryEntry[] = [];
  for (let at = 0; at < bytes.length;) {
    const lengthBytes = view.getUint16(at + lengthAt, true);
    if (lengthBytes <= nameAt || at + lengthBytes > bytes.length) {
      throw ebbError('EIO', 'getdents gave entries that are none.');
    }
    const end = bytes.indexOf(0, at + nameAt);
    const name = bytes.slice(at + nameAt, end);
    if (!isDots(name)) entries.push({ name, type: view.getUint8(at + typeAt) });
    at += lengthBytes;
  }
  return entries;
}

function isDots(name: Uint8Array): boolean {
  return name[0] === dot && (name.length === 1 || (name.length === 2 && name[1] === dot));
}
