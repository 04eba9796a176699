/**
 * A read-write file system in memory, complete enough for POSIX basics: what the mount tests exercise, and an
 * example of how a `FileSystem` is written. The kernel checks permissions (mount with defaultPermissions).
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
  rootNodeId,
} from '../../src/fuse/public.ts';
import type { Attributes, Call, Entry, FileSystem, SetAttributes } from '../../src/fuse/public.ts';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const O_TRUNC = 0o1000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const timeoutMs = 1000;
const fileMaximumBytes = 64 * 1024 * 1024;
const blockSizeBytes = 4096;

interface Node {
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  atimeMs: number;
  mtimeMs: number;
  ctimeMs: number;
  data: Uint8Array;
  sizeBytes: number;
  readonly xattrs: Map<string, Uint8Array>;
  /** Directories: names (latin1 of the bytes, so any bytes are keys) to node ids, in order of creation. */
  readonly children: Map<string, number>;
  parentId: number;
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
const isDirectory = (node: Node): boolean => (node.mode & S_IFMT) === S_IFDIR;

class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export class MemoryFileSystem implements FileSystem {
  readonly #nodes = new Map<number, Node>();
  #nextId = rootNodeId;
  #nextHandle = 1;
  /** Handles of open directories: the names as they were at OPENDIR, so that READDIR is stable. */
  readonly #listings = new Map<number, readonly [string, number][]>();
  readonly #openCounts = new Map<number, number>();

  constructor(uid: number, gid: number) {
    const root = this.#make(S_IFDIR | 0o755, uid, gid, 0);
    root.nlink = 2;
    root.parentId = root.id;
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#node(parentId);
      const text = latin1(name);
      if (text === '.') return void call.entry(this.#entry(parent));
      if (text === '..') return void call.entry(this.#entry(this.#node(parent.parentId)));
      call.entry(this.#entry(this.#child(parent, text)));
    });
  }

  getattr(call: Call, nodeId: number): void {
    this.#answer(call, () => call.attributes(this.#attributes(this.#node(nodeId)), timeoutMs));
  }

  setattr(call: Call, nodeId: number, change: SetAttributes): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      const { valid } = change;
      const nowMs = Date.now();
      if ((valid & FATTR_SIZE) !== 0) this.#resize(node, change.sizeBytes);
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
      call.attributes(this.#attributes(node), timeoutMs);
    });
  }

  readlink(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      call.data(node.data.subarray(0, node.sizeBytes));
    });
  }

  symlink(call: Call, parentId: number, name: Uint8Array, target: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#create(call, parentId, name, S_IFLNK | 0o777, 0);
      node.data = target.slice();
      node.sizeBytes = target.length;
      call.entry(this.#entry(node));
    });
  }

  mknod(call: Call, parentId: number, name: Uint8Array, mode: number, rdev: number): void {
    this.#answer(call, () => {
      call.entry(this.#entry(this.#create(call, parentId, name, mode, rdev)));
    });
  }

  mkdir(call: Call, parentId: number, name: Uint8Array, mode: number): void {
    this.#answer(call, () => {
      const node = this.#create(call, parentId, name, S_IFDIR | (mode & 0o7777), 0);
      call.entry(this.#entry(node));
    });
  }

  unlink(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#node(parentId);
      const node = this.#child(parent, latin1(name));
      if (isDirectory(node)) throw new Refusal(Errno.EISDIR);
      this.#detach(parent, latin1(name), node);
      call.ok();
    });
  }

  rmdir(call: Call, parentId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      const parent = this.#node(parentId);
      const node = this.#child(parent, latin1(name));
      if (!isDirectory(node)) throw new Refusal(Errno.ENOTDIR);
      if (node.children.size > 0) throw new Refusal(Errno.ENOTEMPTY);
      this.#detach(parent, latin1(name), node);
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
      const from = this.#node(oldParentId);
      const to = this.#node(newParentId);
      const moved = this.#child(from, latin1(oldName));
      const replacedId = to.children.get(latin1(newName));
      const replaced = replacedId === undefined ? undefined : this.#node(replacedId);
      if ((flags & RENAME_EXCHANGE) !== 0) {
        if (replaced === undefined) throw new Refusal(Errno.ENOENT);
        this.#move(replaced, to, from, latin1(oldName));
      } else if (replaced !== undefined) {
        if ((flags & RENAME_NOREPLACE) !== 0) throw new Refusal(Errno.EEXIST);
        if (replaced === moved) return void call.ok();
        this.#checkReplace(moved, replaced);
        this.#detach(to, latin1(newName), replaced);
      }
      if ((flags & RENAME_EXCHANGE) === 0) from.children.delete(latin1(oldName));
      this.#move(moved, from, to, latin1(newName));
      from.mtimeMs = from.ctimeMs = to.mtimeMs = to.ctimeMs = moved.ctimeMs = Date.now();
      call.ok();
    });
  }

  link(call: Call, nodeId: number, newParentId: number, newName: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      const parent = this.#node(newParentId);
      if (parent.children.has(latin1(newName))) throw new Refusal(Errno.EEXIST);
      parent.children.set(latin1(newName), node.id);
      node.nlink += 1;
      node.ctimeMs = parent.mtimeMs = parent.ctimeMs = Date.now();
      call.entry(this.#entry(node));
    });
  }

  create(call: Call, parentId: number, name: Uint8Array, flags: number, mode: number): void {
    this.#answer(call, () => {
      const node = this.#create(call, parentId, name, S_IFREG | (mode & 0o7777), 0);
      this.#opened(call, node, flags);
      if (!call.created(this.#entry(node), this.#nextHandle, 0)) this.#closed(node);
    });
  }

  open(call: Call, nodeId: number, flags: number): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      this.#opened(call, node, flags);
      if (!call.opened(this.#nextHandle, 0)) this.#closed(node);
    });
  }

  release(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      call.ok();
      this.#closed(this.#node(nodeId));
    });
  }

  read(call: Call, nodeId: number, _handle: number, offset: number, sizeBytes: number): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      const end = Math.min(node.sizeBytes, offset + sizeBytes);
      node.atimeMs = Date.now();
      call.data(node.data.subarray(Math.min(offset, end), end));
    });
  }

  write(call: Call, nodeId: number, _handle: number, offset: number, data: Uint8Array): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
      const end = offset + data.length;
      if (end > node.sizeBytes) this.#resize(node, end);
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
      filesFree: 1_000_000 - this.#nodes.size,
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
      const { xattrs } = this.#node(nodeId);
      const exists = xattrs.has(latin1(name));
      if ((flags & XATTR_CREATE) !== 0 && exists) throw new Refusal(Errno.EEXIST);
      if ((flags & XATTR_REPLACE) !== 0 && !exists) throw new Refusal(Errno.ENODATA);
      xattrs.set(latin1(name), value.slice());
      call.ok();
    });
  }

  getxattr(call: Call, nodeId: number, name: Uint8Array, sizeBytes: number): void {
    this.#answer(call, () => {
      const value = this.#node(nodeId).xattrs.get(latin1(name));
      if (value === undefined) throw new Refusal(Errno.ENODATA);
      answerXattr(call, value, sizeBytes);
    });
  }

  listxattr(call: Call, nodeId: number, sizeBytes: number): void {
    this.#answer(call, () => {
      const names = [...this.#node(nodeId).xattrs.keys()].map((name) => `${name}\0`).join('');
      answerXattr(call, Buffer.from(names, 'latin1'), sizeBytes);
    });
  }

  removexattr(call: Call, nodeId: number, name: Uint8Array): void {
    this.#answer(call, () => {
      if (!this.#node(nodeId).xattrs.delete(latin1(name))) throw new Refusal(Errno.ENODATA);
      call.ok();
    });
  }

  opendir(call: Call, nodeId: number): void {
    this.#answer(call, () => {
      const node = this.#node(nodeId);
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
        const node = this.#nodes.get(id);
        if (node === undefined) continue;
        const bytes = Buffer.from(name, 'latin1');
        const entry = name === '.' || name === '..' ? undefined : this.#entry(node);
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
      const node = this.#node(nodeId);
      const end = offset + lengthBytes;
      if ((mode & FALLOC_PUNCH_HOLE) !== 0) {
        node.data.fill(0, offset, Math.min(end, node.sizeBytes));
      } else if ((mode & ~FALLOC_KEEP_SIZE) !== 0) {
        throw new Refusal(Errno.EOPNOTSUPP);
      } else if ((mode & FALLOC_KEEP_SIZE) === 0 && end > node.sizeBytes) {
        this.#resize(node, end);
      }
      call.ok();
    });
  }

  lseek(call: Call, nodeId: number, _handle: number, offset: number, whence: number): void {
    this.#answer(call, () => {
      const { sizeBytes } = this.#node(nodeId);
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
      const from = this.#node(nodeId);
      const to = this.#node(outNodeId);
      const end = Math.min(offset + lengthBytes, from.sizeBytes);
      const part = from.data.slice(Math.min(offset, end), end);
      if (outOffset + part.length > to.sizeBytes) this.#resize(to, outOffset + part.length);
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

  #node(id: number): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Refusal(Errno.ESTALE);
    return node;
  }

  #child(parent: Node, name: string): Node {
    if (!isDirectory(parent)) throw new Refusal(Errno.ENOTDIR);
    const id = parent.children.get(name);
    if (id === undefined) throw new Refusal(Errno.ENOENT);
    return this.#node(id);
  }

  #make(mode: number, uid: number, gid: number, rdev: number): Node {
    const nowMs = Date.now();
    const node: Node = {
      id: this.#nextId,
      mode,
      uid,
      gid,
      nlink: 0,
      rdev,
      atimeMs: nowMs,
      mtimeMs: nowMs,
      ctimeMs: nowMs,
      data: new Uint8Array(0),
      sizeBytes: 0,
      xattrs: new Map(),
      children: new Map(),
      parentId: 0,
    };
    this.#nextId += 1;
    this.#nodes.set(node.id, node);
    return node;
  }

  #create(call: Call, parentId: number, name: Uint8Array, mode: number, rdev: number): Node {
    const parent = this.#node(parentId);
    if (parent.nlink === 0) throw new Refusal(Errno.ENOENT);
    if (name.length > 255) throw new Refusal(Errno.ENAMETOOLONG);
    if (parent.children.has(latin1(name))) throw new Refusal(Errno.EEXIST);
    const node = this.#make(mode, call.uid, call.gid, rdev);
    node.nlink = isDirectory(node) ? 2 : 1;
    node.parentId = parent.id;
    if (isDirectory(node)) parent.nlink += 1;
    parent.children.set(latin1(name), node.id);
    parent.mtimeMs = parent.ctimeMs = Date.now();
    return node;
  }

  #detach(parent: Node, name: string, node: Node): void {
    parent.children.delete(name);
    parent.mtimeMs = parent.ctimeMs = node.ctimeMs = Date.now();
    if (isDirectory(node)) {
      parent.nlink -= 1;
      node.nlink = 0;
    } else node.nlink -= 1;
    this.#dropIfUnused(node);
  }

  #move(node: Node, from: Node, to: Node, name: string): void {
    to.children.set(name, node.id);
    node.parentId = to.id;
    if (isDirectory(node) && from !== to) {
      from.nlink -= 1;
      to.nlink += 1;
    }
  }

  #checkReplace(moved: Node, replaced: Node): void {
    if (isDirectory(moved) && !isDirectory(replaced)) throw new Refusal(Errno.ENOTDIR);
    if (!isDirectory(moved) && isDirectory(replaced)) throw new Refusal(Errno.EISDIR);
    if (replaced.children.size > 0) throw new Refusal(Errno.ENOTEMPTY);
  }

  #opened(call: Call, node: Node, flags: number): void {
    if ((flags & O_TRUNC) !== 0) this.#resize(node, 0);
    if (call.killSuidGid) killSuidGid(node);
    this.#nextHandle += 1;
    this.#openCounts.set(node.id, (this.#openCounts.get(node.id) ?? 0) + 1);
  }

  #closed(node: Node): void {
    const count = (this.#openCounts.get(node.id) ?? 1) - 1;
    if (count > 0) this.#openCounts.set(node.id, count);
    else this.#openCounts.delete(node.id);
    this.#dropIfUnused(node);
  }

  /** Content of a file without a name goes with its last open; the attributes stay for fstat. */
  #dropIfUnused(node: Node): void {
    if (node.nlink > 0 || this.#openCounts.has(node.id) || isDirectory(node)) return;
    node.data = new Uint8Array(0);
  }

  #resize(node: Node, sizeBytes: number): void {
    if (sizeBytes > fileMaximumBytes) throw new Refusal(Errno.EFBIG);
    if (sizeBytes > node.data.length) {
      const grown = new Uint8Array(Math.max(sizeBytes, node.data.length * 2));
      grown.set(node.data.subarray(0, node.sizeBytes));
      node.data = grown;
    } else if (sizeBytes < node.sizeBytes) node.data.fill(0, sizeBytes, node.sizeBytes);
    node.sizeBytes = sizeBytes;
    node.mtimeMs = node.ctimeMs = Date.now();
  }

  #entry(node: Node): Entry {
    return {
      nodeId: node.id,
      generation: 0,
      entryTimeoutMs: timeoutMs,
      attributeTimeoutMs: timeoutMs,
      attributes: this.#attributes(node),
    };
  }

  #attributes(node: Node): Attributes {
    return {
      ino: node.id,
      sizeBytes: node.sizeBytes,
      blocks: Math.ceil(node.sizeBytes / 512),
      ...splitTime('atime', node.atimeMs),
      ...splitTime('mtime', node.mtimeMs),
      ...splitTime('ctime', node.ctimeMs),
      mode: node.mode,
      nlink: node.nlink,
      uid: node.uid,
      gid: node.gid,
      rdev: node.rdev,
      blockSizeBytes,
    };
  }
}

function killSuidGid(node: Node): void {
  node.mode &= ~0o4000;
  if ((node.mode & 0o0010) !== 0) node.mode &= ~0o2000;
}

function answerXattr(call: Call, value: Uint8Array, sizeBytes: number): void {
  if (sizeBytes === 0) call.xattrSize(value.length);
  else if (value.length > sizeBytes) call.error(Errno.ERANGE);
  else call.data(value);
}

function splitTime<const Name extends string>(
  name: Name,
  timeMs: number,
): Record<`${Name}Seconds` | `${Name}Nanoseconds`, number> {
  const seconds = Math.floor(timeMs / 1000);
  const nanoseconds = Math.round((timeMs - seconds * 1000) * 1e6);
  return { [`${name}Seconds`]: seconds, [`${name}Nanoseconds`]: nanoseconds } as Record<
    `${Name}Seconds` | `${Name}Nanoseconds`,
    number
  >;
}

export function createFileSystem(): FileSystem {
  return new MemoryFileSystem(process.getuid?.() ?? 0, process.getgid?.() ?? 0);
}
