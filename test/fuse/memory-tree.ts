/** The nodes of the file system in memory: names, content, times, link and open counts. */
import { Errno, rootNodeId } from '../../src/fuse/public.ts';
import type { Attributes, Call, Entry } from '../../src/fuse/public.ts';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
const O_TRUNC = 0o1000;
export const timeoutMs = 1000;
const fileMaximumBytes = 64 * 1024 * 1024;
export const blockSizeBytes = 4096;

export interface Node {
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
  /**
   * Directories: names (latin1 of the bytes, so any bytes are keys) to node ids, in order of
   * creation.
   */
  readonly children: Map<string, number>;
  parentId: number;
}

export const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
export const isDirectory = (node: Node): boolean => (node.mode & S_IFMT) === S_IFDIR;

/** Ends a method: the call is answered with this errno. */
export class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

export class MemoryTree {
  readonly #nodes = new Map<number, Node>();
  readonly #openCounts = new Map<number, number>();
  #nextId = rootNodeId;

  constructor(uid: number, gid: number) {
    const root = this.make(S_IFDIR | 0o755, uid, gid, 0);
    root.nlink = 2;
    root.parentId = root.id;
  }

  get size(): number {
    return this.#nodes.size;
  }

  find(id: number): Node | undefined {
    return this.#nodes.get(id);
  }

  node(id: number): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Refusal(Errno.ESTALE);
    return node;
  }

  child(parent: Node, name: string): Node {
    if (!isDirectory(parent)) throw new Refusal(Errno.ENOTDIR);
    const id = parent.children.get(name);
    if (id === undefined) throw new Refusal(Errno.ENOENT);
    return this.node(id);
  }

  make(mode: number, uid: number, gid: number, rdev: number): Node {
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

  create(call: Call, parentId: number, name: Uint8Array, mode: number, rdev: number): Node {
    const parent = this.node(parentId);
    if (parent.nlink === 0) throw new Refusal(Errno.ENOENT);
    if (name.length > 255) throw new Refusal(Errno.ENAMETOOLONG);
    if (parent.children.has(latin1(name))) throw new Refusal(Errno.EEXIST);
    const node = this.make(mode, call.uid, call.gid, rdev);
    node.nlink = isDirectory(node) ? 2 : 1;
    node.parentId = parent.id;
    if (isDirectory(node)) parent.nlink += 1;
    parent.children.set(latin1(name), node.id);
    parent.mtimeMs = parent.ctimeMs = Date.now();
    return node;
  }

  detach(parent: Node, name: string, node: Node): void {
    parent.children.delete(name);
    parent.mtimeMs = parent.ctimeMs = node.ctimeMs = Date.now();
    if (isDirectory(node)) {
      parent.nlink -= 1;
      node.nlink = 0;
    } else node.nlink -= 1;
    this.#dropIfUnused(node);
  }

  move(node: Node, from: Node, to: Node, name: string): void {
    to.children.set(name, node.id);
    node.parentId = to.id;
    if (isDirectory(node) && from !== to) {
      from.nlink -= 1;
      to.nlink += 1;
    }
  }

  checkReplace(moved: Node, replaced: Node): void {
    if (isDirectory(moved) && !isDirectory(replaced)) throw new Refusal(Errno.ENOTDIR);
    if (!isDirectory(moved) && isDirectory(replaced)) throw new Refusal(Errno.EISDIR);
    if (replaced.children.size > 0) throw new Refusal(Errno.ENOTEMPTY);
  }

  opened(call: Call, node: Node, flags: number): void {
    if ((flags & O_TRUNC) !== 0) this.resize(node, 0);
    if (call.killSuidGid) killSuidGid(node);
    this.#openCounts.set(node.id, (this.#openCounts.get(node.id) ?? 0) + 1);
  }

  closed(node: Node): void {
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

  resize(node: Node, sizeBytes: number): void {
    if (sizeBytes > fileMaximumBytes) throw new Refusal(Errno.EFBIG);
    if (sizeBytes > node.data.length) {
      const grown = new Uint8Array(Math.max(sizeBytes, node.data.length * 2));
      grown.set(node.data.subarray(0, node.sizeBytes));
      node.data = grown;
    } else if (sizeBytes < node.sizeBytes) node.data.fill(0, sizeBytes, node.sizeBytes);
    node.sizeBytes = sizeBytes;
    node.mtimeMs = node.ctimeMs = Date.now();
  }

  entry(node: Node): Entry {
    return {
      nodeId: node.id,
      generation: 0,
      entryTimeoutMs: timeoutMs,
      attributeTimeoutMs: timeoutMs,
      attributes: this.attributes(node),
    };
  }

  attributes(node: Node): Attributes {
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

export function killSuidGid(node: Node): void {
  node.mode &= ~0o4000;
  if ((node.mode & 0o0010) !== 0) node.mode &= ~0o2000;
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
