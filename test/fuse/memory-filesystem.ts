/**
 * A read-write file system in memory, complete enough for POSIX basics: what the mount tests
 * exercise, and an example of how a `FileSystem` is written. The kernel checks permissions (mount
 * with defaultPermissions).
 */
import { Errno } from '../../src/base/errno.ts';
import {
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
} from '../../src/fuse/public.ts';
import {
  blockSizeBytes,
  isDirectory,
  killSuidGid,
  latin1,
  MemoryTree,
  Refusal,
  S_IFDIR,
  S_IFMT,
  timeoutMs,
} from './memory-tree.ts';
import type { Call, FileSystem, SetAttributes } from '../../src/fuse/public.ts';

const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;

export class MemoryFileSystem implements FileSystem {
  readonly #tree: MemoryTree;
  #nextHandle = 1;
  /** Handles of open directories: the names as they were at OPENDIR, so that READDIR is stable. */
  readonly #listings = new Map<number, readonly [string, number][]>();

  constructor(uid: number, gid: number) {
    this.#tree = new MemoryTree(uid, gid);
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#tree.node(parentId);
      const text = latin1(name);
      if (text === '.') return void call.entry(this.#tree.entry(parent));
      if (text === '..') return void call.entry(this.#tree.entry(this.#tree.node(parent.parentId)));
      call.entry(this.#tree.entry(this.#tree.child(parent, text)));
    });
  }

  getattr(call: Call, nodeId: number): void {
    this.#answer(call, () =>
      call.attributes(this.#tree.attributes(this.#tree.node(nodeId)), timeoutMs),
    );
  }

  setattr(call: Call, nodeId: number, change: SetAttributes): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      const { valid } = change;
      const nowMs = Date.now();
      if ((valid & FATTR_SIZE) !== 0) this.#tree.resize(node, change.sizeBytes);
      if ((valid & FATTR_MODE) !== 0) node.mode = (node.mode & S_IFMT) | (change.mode & 0o7777);
      if ((valid & FATTR_UID) !== 0) node.uid = change.uid;
      if ((valid & FATTR_GID) !== 0) node.gid = change.gid;
      if ((valid & FATTR_ATIME) !== 0) {
        node.atimeMs = change.atimeSeconds * 1000 + change.atimeNanoseconds / 1e6;
      }
      if ((valid & FATTR_MTIME) !== 0) {
        node.mtimeMs = change.mtimeSeconds * 1000 + change.mtimeNanoseconds / 1e6;
      }
      if ((valid & FATTR_ATIME_NOW) !== 0) node.atimeMs = nowMs;
      if ((valid & FATTR_MTIME_NOW) !== 0) node.mtimeMs = nowMs;
      if ((valid & FATTR_KILL_SUIDGID) !== 0) killSuidGid(node);
      node.ctimeMs = nowMs;
      call.attributes(this.#tree.attributes(node), timeoutMs);
    });
  }

  readlink(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      call.data(node.data.subarray(0, node.sizeBytes));
    });
  }

  symlink(call: Call, parentId: number, name: Uint8Array, target: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#tree.create(call, parentId, name, S_IFLNK | 0o777, 0);
      node.data = target.slice();
      node.sizeBytes = target.length;
      call.entry(this.#tree.entry(node));
    });
  }

  mknod(call: Call, parentId: number, name: Uint8Array, mode: number, rdev: number): void {
    this.#answer(call, () => {
      call.entry(this.#tree.entry(this.#tree.create(call, parentId, name, mode, rdev)));
    });
  }

  mkdir(call: Call, parentId: number, name: Uint8Array, mode: number): void {
    this.#answer(call, () => {
      const node = this.#tree.create(call, parentId, name, S_IFDIR | (mode & 0o7777), 0);
      call.entry(this.#tree.entry(node));
    });
  }

  unlink(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#tree.node(parentId);
      const node = this.#tree.child(parent, latin1(name));
      if (isDirectory(node)) throw new Refusal(Errno.EISDIR);
      this.#tree.detach(parent, latin1(name), node);
      call.ok();
    });
  }

  rmdir(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#tree.node(parentId);
      const node = this.#tree.child(parent, latin1(name));
      if (!isDirectory(node)) throw new Refusal(Errno.ENOTDIR);
      if (node.children.size > 0) throw new Refusal(Errno.ENOTEMPTY);
      this.#tree.detach(parent, latin1(name), node);
      call.ok();
    });
  }

  rename(
    call: Call,
    oldParentId: number,
    oldName: Uint8Array,
    newParentId: number,
    newName: Uint8Array,
    flags: number,
  ): void {
    this.#answer(call, () => {
      const from = this.#tree.node(oldParentId);
      const to = this.#tree.node(newParentId);
      const moved = this.#tree.child(from, latin1(oldName));
      const replacedId = to.children.get(latin1(newName));
      const replaced = replacedId === undefined ? undefined : this.#tree.node(replacedId);
      if ((flags & RENAME_EXCHANGE) !== 0) {
        if (replaced === undefined) throw new Refusal(Errno.ENOENT);
        this.#tree.move(replaced, to, from, latin1(oldName));
      } else if (replaced !== undefined) {
        if ((flags & RENAME_NOREPLACE) !== 0) throw new Refusal(Errno.EEXIST);
        if (replaced === moved) return void call.ok();
        this.#tree.checkReplace(moved, replaced);
        this.#tree.detach(to, latin1(newName), replaced);
      }
      if ((flags & RENAME_EXCHANGE) === 0) from.children.delete(latin1(oldName));
      this.#tree.move(moved, from, to, latin1(newName));
      from.mtimeMs = from.ctimeMs = to.mtimeMs = to.ctimeMs = moved.ctimeMs = Date.now();
      call.ok();
    });
  }

  link(call: Call, nodeId: number, newParentId: number, newName: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      const parent = this.#tree.node(newParentId);
      if (parent.children.has(latin1(newName))) throw new Refusal(Errno.EEXIST);
      parent.children.set(latin1(newName), node.id);
      node.nlink += 1;
      node.ctimeMs = parent.mtimeMs = parent.ctimeMs = Date.now();
      call.entry(this.#tree.entry(node));
    });
  }

  create(call: Call, parentId: number, name: Uint8Array, flags: number, mode: number): void {
    this.#answer(call, () => {
      const node = this.#tree.create(call, parentId, name, S_IFREG | (mode & 0o7777), 0);
      this.#tree.opened(call, node, flags);
      this.#nextHandle += 1;
      if (!call.created(this.#tree.entry(node), this.#nextHandle, 0)) this.#tree.closed(node);
    });
  }

  open(call: Call, nodeId: number, flags: number): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      this.#tree.opened(call, node, flags);
      this.#nextHandle += 1;
      if (!call.opened(this.#nextHandle, 0)) this.#tree.closed(node);
    });
  }

  release(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      call.ok();
      this.#tree.closed(this.#tree.node(nodeId));
    });
  }

  read(call: Call, nodeId: number, _handle: number, offset: number, sizeBytes: number): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      const end = Math.min(node.sizeBytes, offset + sizeBytes);
      node.atimeMs = Date.now();
      call.data(node.data.subarray(Math.min(offset, end), end));
    });
  }

  write(call: Call, nodeId: number, _handle: number, offset: number, data: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      const end = offset + data.length;
      if (end > node.sizeBytes) this.#tree.resize(node, end);
      node.data.set(data, offset);
      if (call.killSuidGid) killSuidGid(node);
      node.mtimeMs = node.ctimeMs = Date.now();
      call.written(data.length);
    });
  }

  statfs(call: Call): void {
    const blocks = 1024 * 1024;
    call.statfs({
      blocks,
      blocksFree: blocks / 2,
      blocksAvailable: blocks / 4,
      files: 1_000_000,
      filesFree: 1_000_000 - this.#tree.size,
      blockSizeBytes,
      nameMaxBytes: 255,
      fragmentSizeBytes: blockSizeBytes,
    });
  }

  fsync(call: Call): void {
    call.ok();
  }

  setxattr(call: Call, nodeId: number, name: Uint8Array, value: Uint8Array, flags: number): void {
    this.#answer(call, () => {
      const { xattrs } = this.#tree.node(nodeId);
      const exists = xattrs.has(latin1(name));
      if ((flags & XATTR_CREATE) !== 0 && exists) throw new Refusal(Errno.EEXIST);
      if ((flags & XATTR_REPLACE) !== 0 && !exists) throw new Refusal(Errno.ENODATA);
      xattrs.set(latin1(name), value.slice());
      call.ok();
    });
  }

  getxattr(call: Call, nodeId: number, name: Uint8Array, sizeBytes: number): void {
    this.#answer(call, () => {
      const value = this.#tree.node(nodeId).xattrs.get(latin1(name));
      if (value === undefined) throw new Refusal(Errno.ENODATA);
      answerXattr(call, value, sizeBytes);
    });
  }

  listxattr(call: Call, nodeId: number, sizeBytes: number): void {
    this.#answer(call, () => {
      const names = [...this.#tree.node(nodeId).xattrs.keys()].map((name) => `${name}\0`).join('');
      answerXattr(call, Buffer.from(names, 'latin1'), sizeBytes);
    });
  }

  removexattr(call: Call, nodeId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      if (!this.#tree.node(nodeId).xattrs.delete(latin1(name))) throw new Refusal(Errno.ENODATA);
      call.ok();
    });
  }

  opendir(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      this.#nextHandle += 1;
      const names: [string, number][] = [['.', node.id], ['..', node.parentId], ...node.children];
      this.#listings.set(this.#nextHandle, names);
      if (!call.opened(this.#nextHandle, 0)) this.#listings.delete(this.#nextHandle);
    });
  }

  readdir(call: Call, _nodeId: number, handle: number, offset: number, plus: boolean): void {
    this.#answer(call, () => {
      const listing = this.#listings.get(handle) ?? [];
      const answer = call.directory();
      for (let index = offset; index < listing.length; index += 1) {
        const [name, id] = listing[index] ?? ['', 0];
        const node = this.#tree.find(id);
        if (node === undefined) continue;
        const bytes = Buffer.from(name, 'latin1');
        const entry = name === '.' || name === '..' ? undefined : this.#tree.entry(node);
        const fits = plus
          ? answer.addPlus(bytes, id, node.mode, index + 1, entry)
          : answer.add(bytes, id, node.mode, index + 1);
        if (!fits) break;
      }
      call.directoryDone();
    });
  }

  releasedir(call: Call, _nodeId: number, handle: number): void {
    this.#listings.delete(handle);
    call.ok();
  }

  fallocate(
    call: Call,
    nodeId: number,
    _handle: number,
    mode: number,
    offset: number,
    lengthBytes: number,
  ): void {
    this.#answer(call, () => {
      const node = this.#tree.node(nodeId);
      const end = offset + lengthBytes;
      if ((mode & FALLOC_PUNCH_HOLE) !== 0) {
        node.data.fill(0, offset, Math.min(end, node.sizeBytes));
      } else if ((mode & ~FALLOC_KEEP_SIZE) !== 0) {
        throw new Refusal(Errno.EOPNOTSUPP);
      } else if ((mode & FALLOC_KEEP_SIZE) === 0 && end > node.sizeBytes) {
        this.#tree.resize(node, end);
      }
      call.ok();
    });
  }

  lseek(call: Call, nodeId: number, _handle: number, offset: number, whence: number): void {
    this.#answer(call, () => {
      const { sizeBytes } = this.#tree.node(nodeId);
      if (offset >= sizeBytes) throw new Refusal(Errno.ENXIO);
      if (whence === SEEK_DATA) call.offset(offset);
      else if (whence === SEEK_HOLE) call.offset(sizeBytes);
      else throw new Refusal(Errno.EINVAL);
    });
  }

  copyFileRange(
    call: Call,
    nodeId: number,
    _handle: number,
    offset: number,
    outNodeId: number,
    _outHandle: number,
    outOffset: number,
    lengthBytes: number,
  ): void {
    this.#answer(call, () => {
      const from = this.#tree.node(nodeId);
      const to = this.#tree.node(outNodeId);
      const end = Math.min(offset + lengthBytes, from.sizeBytes);
      const part = from.data.slice(Math.min(offset, end), end);
      if (outOffset + part.length > to.sizeBytes) this.#tree.resize(to, outOffset + part.length);
      to.data.set(part, outOffset);
      call.written(part.length);
    });
  }

  #answer(call: Call, work: () => unknown): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      call.error(error.errno);
    }
  }
}

function answerXattr(call: Call, value: Uint8Array, sizeBytes: number): void {
  if (sizeBytes === 0) call.xattrSize(value.length);
  else if (value.length > sizeBytes) call.error(Errno.ERANGE);
  else call.data(value);
}

export function createFileSystem(): FileSystem {
  return new MemoryFileSystem(process.getuid?.() ?? 0, process.getgid?.() ?? 0);
}
