/**
 * From opcode to method: each handler takes its fields from the request, by offset, and calls the
 * file system. A handler of a method that is absent answers ENOSYS, which the kernel remembers.
 */
import { Errno } from '../base/errno.ts';
import {
  FSYNC_FDATASYNC,
  GETATTR_FH,
  OPEN_KILL_SUIDGID,
  Opcode,
  opcodeCount,
  WRITE_KILL_SUIDGID,
} from './constants.ts';
import { bodyAt } from './incoming.ts';
import {
  copyFileRangeIn,
  createIn,
  fallocateIn,
  flushIn,
  fsyncIn,
  getattrIn,
  getxattrIn,
  linkIn,
  lseekIn,
  mkdirIn,
  mknodIn,
  openIn,
  readIn,
  releaseIn,
  rename2In,
  renameIn,
  setattrIn,
  setxattrCompatIn,
  setxattrIn,
  writeIn,
} from './wire/requests.ts';
import type { SessionCall } from './call.ts';
import type { FileSystem } from './filesystem.ts';
import type { Incoming } from './incoming.ts';

/** May throw `ProtocolError` (malformed request) or whatever the file system throws. */
export type Handler = (fs: FileSystem, call: SessionCall, incoming: Incoming) => void;

/**
 * Bytes that one COPY_FILE_RANGE may ask for: the answer's count has 32 bits. The caller copies on.
 */
const copyMaximumBytes = 0x7fff_f000;

function absent(call: SessionCall): void {
  call.error(Errno.ENOSYS);
}

function lookup(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.lookup === undefined) return absent(call);
  fs.lookup(call, call.nodeId, incoming.nameAt(bodyAt));
}

function getattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.getattr === undefined) return absent(call);
  incoming.need(getattrIn.sizeBytes);
  const { buffer } = incoming;
  const hasHandle = (buffer.u32(bodyAt) & GETATTR_FH) !== 0;
  fs.getattr(call, call.nodeId, hasHandle ? buffer.u64(bodyAt + getattrIn.offsets.fh) : undefined);
}

function setattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.setattr === undefined) return absent(call);
  incoming.need(setattrIn.sizeBytes);
  const { buffer, change } = incoming;
  const at = setattrIn.offsets;
  change.valid = buffer.u32(bodyAt);
  change.fileHandle = buffer.u64(bodyAt + at.fh);
  change.sizeBytes = buffer.u64(bodyAt + at.size, Errno.EFBIG);
  change.atimeSeconds = buffer.i64(bodyAt + at.atime);
  change.mtimeSeconds = buffer.i64(bodyAt + at.mtime);
  change.ctimeSeconds = buffer.i64(bodyAt + at.ctime);
  change.atimeNanoseconds = buffer.u32(bodyAt + at.atimensec);
  change.mtimeNanoseconds = buffer.u32(bodyAt + at.mtimensec);
  change.ctimeNanoseconds = buffer.u32(bodyAt + at.ctimensec);
  change.mode = buffer.u32(bodyAt + at.mode);
  change.uid = buffer.u32(bodyAt + at.uid);
  change.gid = buffer.u32(bodyAt + at.gid);
  fs.setattr(call, call.nodeId, change);
}

function readlink(fs: FileSystem, call: SessionCall): void {
  if (fs.readlink === undefined) return absent(call);
  fs.readlink(call, call.nodeId);
}

function symlink(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.symlink === undefined) return absent(call);
  const name = incoming.nameAt(bodyAt);
  fs.symlink(call, call.nodeId, name, incoming.nameAt(incoming.nextBytes));
}

function mknod(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.mknod === undefined) return absent(call);
  incoming.need(mknodIn.sizeBytes);
  const { buffer } = incoming;
  const name = incoming.nameAt(bodyAt + mknodIn.sizeBytes);
  const at = mknodIn.offsets;
  const mode = buffer.u32(bodyAt + at.mode);
  const rdev = buffer.u32(bodyAt + at.rdev);
  fs.mknod(call, call.nodeId, name, mode, rdev, buffer.u32(bodyAt + at.umask));
}

function mkdir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.mkdir === undefined) return absent(call);
  incoming.need(mkdirIn.sizeBytes);
  const { buffer } = incoming;
  const name = incoming.nameAt(bodyAt + mkdirIn.sizeBytes);
  const umask = buffer.u32(bodyAt + mkdirIn.offsets.umask);
  fs.mkdir(call, call.nodeId, name, buffer.u32(bodyAt), umask);
}

function unlink(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.unlink === undefined) return absent(call);
  fs.unlink(call, call.nodeId, incoming.nameAt(bodyAt));
}

function rmdir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.rmdir === undefined) return absent(call);
  fs.rmdir(call, call.nodeId, incoming.nameAt(bodyAt));
}

function rename(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.rename === undefined) return absent(call);
  const withFlags = call.opcode === Opcode.RENAME2;
  const structBytes = withFlags ? rename2In.sizeBytes : renameIn.sizeBytes;
  incoming.need(structBytes);
  const { buffer } = incoming;
  const newParentId = buffer.u64(bodyAt, Errno.ESTALE);
  const flags = withFlags ? buffer.u32(bodyAt + rename2In.offsets.flags) : 0;
  const oldName = incoming.nameAt(bodyAt + structBytes);
  const newName = incoming.nameAt(incoming.nextBytes);
  fs.rename(call, call.nodeId, oldName, newParentId, newName, flags);
}

function link(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.link === undefined) return absent(call);
  incoming.need(linkIn.sizeBytes);
  const nodeId = incoming.buffer.u64(bodyAt, Errno.ESTALE);
  fs.link(call, nodeId, call.nodeId, incoming.nameAt(bodyAt + linkIn.sizeBytes));
}

function open(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.open === undefined) return absent(call);
  incoming.need(openIn.sizeBytes);
  const { buffer } = incoming;
  call.killSuidGid = (buffer.u32(bodyAt + openIn.offsets.open_flags) & OPEN_KILL_SUIDGID) !== 0;
  fs.open(call, call.nodeId, buffer.u32(bodyAt));
}

function read(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.read === undefined) return absent(call);
  incoming.need(readIn.sizeBytes);
  const { buffer } = incoming;
  const fileHandle = buffer.u64(bodyAt);
  const offset = buffer.u64(bodyAt + readIn.offsets.offset);
  fs.read(call, call.nodeId, fileHandle, offset, buffer.u32(bodyAt + readIn.offsets.size));
}

function write(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.write === undefined) return absent(call);
  incoming.need(writeIn.sizeBytes);
  const { buffer } = incoming;
  const at = writeIn.offsets;
  const offset = buffer.u64(bodyAt + at.offset, Errno.EFBIG);
  const data = incoming.dataAt(bodyAt + writeIn.sizeBytes, buffer.u32(bodyAt + at.size));
  call.killSuidGid = (buffer.u32(bodyAt + at.write_flags) & WRITE_KILL_SUIDGID) !== 0;
  fs.write(call, call.nodeId, buffer.u64(bodyAt), offset, data);
}

function statfs(fs: FileSystem, call: SessionCall): void {
  if (fs.statfs === undefined) return absent(call);
  fs.statfs(call, call.nodeId);
}

function flush(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.flush === undefined) return absent(call);
  incoming.need(flushIn.sizeBytes);
  const { buffer } = incoming;
  const lockOwner = buffer.token(bodyAt + flushIn.offsets.lock_owner);
  fs.flush(call, call.nodeId, buffer.u64(bodyAt), lockOwner);
}

/**
 * Without a method RELEASE succeeds: ENOSYS is not remembered for it, and close(2) ignores it
 * anyway.
 */
function release(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.release === undefined) return void call.ok();
  incoming.need(releaseIn.sizeBytes);
  const { buffer } = incoming;
  const flags = buffer.u32(bodyAt + releaseIn.offsets.flags);
  fs.release(call, call.nodeId, buffer.u64(bodyAt), flags);
}

function releasedir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.releasedir === undefined) return void call.ok();
  incoming.need(releaseIn.sizeBytes);
  fs.releasedir(call, call.nodeId, incoming.buffer.u64(bodyAt));
}

function isDataOnly(incoming: Incoming): boolean {
  const flags = incoming.buffer.u32(bodyAt + fsyncIn.offsets.fsync_flags);
  return (flags & FSYNC_FDATASYNC) !== 0;
}

function fsync(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.fsync === undefined) return absent(call);
  incoming.need(fsyncIn.sizeBytes);
  fs.fsync(call, call.nodeId, incoming.buffer.u64(bodyAt), isDataOnly(incoming));
}

function fsyncdir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.fsyncdir === undefined) return absent(call);
  incoming.need(fsyncIn.sizeBytes);
  fs.fsyncdir(call, call.nodeId, incoming.buffer.u64(bodyAt), isDataOnly(incoming));
}

function setxattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.setxattr === undefined) return absent(call);
  const structBytes = (incoming.setxattrExtended ? setxattrIn : setxattrCompatIn).sizeBytes;
  incoming.need(structBytes);
  const { buffer } = incoming;
  const flags = buffer.u32(bodyAt + setxattrCompatIn.offsets.flags);
  const name = incoming.nameAt(bodyAt + structBytes);
  const value = incoming.dataAt(incoming.nextBytes, buffer.u32(bodyAt));
  fs.setxattr(call, call.nodeId, name, value, flags);
}

function getxattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.getxattr === undefined) return absent(call);
  incoming.need(getxattrIn.sizeBytes);
  const name = incoming.nameAt(bodyAt + getxattrIn.sizeBytes);
  fs.getxattr(call, call.nodeId, name, incoming.buffer.u32(bodyAt));
}

function listxattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.listxattr === undefined) return absent(call);
  incoming.need(getxattrIn.sizeBytes);
  fs.listxattr(call, call.nodeId, incoming.buffer.u32(bodyAt));
}

function removexattr(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.removexattr === undefined) return absent(call);
  fs.removexattr(call, call.nodeId, incoming.nameAt(bodyAt));
}

function opendir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.opendir === undefined) return absent(call);
  incoming.need(openIn.sizeBytes);
  fs.opendir(call, call.nodeId, incoming.buffer.u32(bodyAt));
}

function readdir(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.readdir === undefined) return absent(call);
  incoming.need(readIn.sizeBytes);
  const { buffer } = incoming;
  const offset = buffer.u64(bodyAt + readIn.offsets.offset);
  call.directoryPlus = call.opcode === Opcode.READDIRPLUS;
  call.directorySizeBytes = buffer.u32(bodyAt + readIn.offsets.size);
  fs.readdir(call, call.nodeId, buffer.u64(bodyAt), offset, call.directoryPlus);
}

function access(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.access === undefined) return absent(call);
  incoming.need(8);
  fs.access(call, call.nodeId, incoming.buffer.u32(bodyAt));
}

function create(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.create === undefined) return absent(call);
  incoming.need(createIn.sizeBytes);
  const { buffer } = incoming;
  const at = createIn.offsets;
  const name = incoming.nameAt(bodyAt + createIn.sizeBytes);
  const mode = buffer.u32(bodyAt + at.mode);
  const umask = buffer.u32(bodyAt + at.umask);
  call.killSuidGid = (buffer.u32(bodyAt + at.open_flags) & OPEN_KILL_SUIDGID) !== 0;
  fs.create(call, call.nodeId, name, buffer.u32(bodyAt), mode, umask);
}

/** The name in the request is made up by the kernel and means nothing. */
function tmpfile(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.tmpfile === undefined) return absent(call);
  incoming.need(createIn.sizeBytes);
  const { buffer } = incoming;
  const at = createIn.offsets;
  const mode = buffer.u32(bodyAt + at.mode);
  fs.tmpfile(call, call.nodeId, buffer.u32(bodyAt), mode, buffer.u32(bodyAt + at.umask));
}

function fallocate(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.fallocate === undefined) return absent(call);
  incoming.need(fallocateIn.sizeBytes);
  const { buffer } = incoming;
  const at = fallocateIn.offsets;
  const offset = buffer.u64(bodyAt + at.offset, Errno.EFBIG);
  const lengthBytes = buffer.u64(bodyAt + at.length, Errno.EFBIG);
  const mode = buffer.u32(bodyAt + at.mode);
  fs.fallocate(call, call.nodeId, buffer.u64(bodyAt), mode, offset, lengthBytes);
}

function lseek(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.lseek === undefined) return absent(call);
  incoming.need(lseekIn.sizeBytes);
  const { buffer } = incoming;
  // An offset outside every file: what lseek(2) says of SEEK_DATA and SEEK_HOLE there.
  const offset = buffer.u64(bodyAt + lseekIn.offsets.offset, Errno.ENXIO);
  const whence = buffer.u32(bodyAt + lseekIn.offsets.whence);
  fs.lseek(call, call.nodeId, buffer.u64(bodyAt), offset, whence);
}

function copyFileRange(fs: FileSystem, call: SessionCall, incoming: Incoming): void {
  if (fs.copyFileRange === undefined) return absent(call);
  incoming.need(copyFileRangeIn.sizeBytes);
  const { buffer } = incoming;
  const at = copyFileRangeIn.offsets;
  fs.copyFileRange(
    call,
    call.nodeId,
    buffer.u64(bodyAt),
    buffer.u64(bodyAt + at.off_in),
    buffer.u64(bodyAt + at.nodeid_out, Errno.ESTALE),
    buffer.u64(bodyAt + at.fh_out),
    buffer.u64(bodyAt + at.off_out, Errno.EFBIG),
    Math.min(buffer.u64(bodyAt + at.len), copyMaximumBytes),
    buffer.u32(bodyAt + at.flags),
  );
}

/** No ioctl is served; ENOTTY is what ioctl(2) promises for that. */
function ioctl(_fs: FileSystem, call: SessionCall): void {
  call.error(Errno.ENOTTY);
}

/**
 * Handlers by opcode; what is absent is answered ENOSYS (locks, BMAP, POLL, DAX, SYNCFS, STATX,
 * unknown).
 */
export const handlers: readonly (Handler | undefined)[] = Object.freeze(
  Object.entries({
    [Opcode.LOOKUP]: lookup,
    [Opcode.GETATTR]: getattr,
    [Opcode.SETATTR]: setattr,
    [Opcode.READLINK]: readlink,
    [Opcode.SYMLINK]: symlink,
    [Opcode.MKNOD]: mknod,
    [Opcode.MKDIR]: mkdir,
    [Opcode.UNLINK]: unlink,
    [Opcode.RMDIR]: rmdir,
    [Opcode.RENAME]: rename,
    [Opcode.RENAME2]: rename,
    [Opcode.LINK]: link,
    [Opcode.OPEN]: open,
    [Opcode.READ]: read,
    [Opcode.WRITE]: write,
    [Opcode.STATFS]: statfs,
    [Opcode.FLUSH]: flush,
    [Opcode.RELEASE]: release,
    [Opcode.RELEASEDIR]: releasedir,
    [Opcode.FSYNC]: fsync,
    [Opcode.FSYNCDIR]: fsyncdir,
    [Opcode.SETXATTR]: setxattr,
    [Opcode.GETXATTR]: getxattr,
    [Opcode.LISTXATTR]: listxattr,
    [Opcode.REMOVEXATTR]: removexattr,
    [Opcode.OPENDIR]: opendir,
    [Opcode.READDIR]: readdir,
    [Opcode.READDIRPLUS]: readdir,
    [Opcode.ACCESS]: access,
    [Opcode.CREATE]: create,
    [Opcode.TMPFILE]: tmpfile,
    [Opcode.FALLOCATE]: fallocate,
    [Opcode.LSEEK]: lseek,
    [Opcode.COPY_FILE_RANGE]: copyFileRange,
    [Opcode.COPY_FILE_RANGE_64]: copyFileRange,
    [Opcode.IOCTL]: ioctl,
  }).reduce<(Handler | undefined)[]>(
    (table, [opcode, handler]) => {
      table[Number(opcode)] = handler;
      return table;
    },
    Array.from({ length: opcodeCount }),
  ),
);
