/** Origins for the conformance suite that need no server: memory and a directory. */
import { link, lstat, mkdir, open, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { encodeName } from '../../src/base/name.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { parentKey } from '../../src/remote/key.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { setFileTimes } from '../../src/sys/stat.ts';
import { allFeatures } from '../conformance/remote.ts';
import type { PutOptions, RemoteFixture } from '../conformance/remote.ts';
import { temporaryDirectory } from './temporary.ts';

/** What wrappers are made of: the same remote with something around it. */
export type WrapRemote = (remote: Remote) => Remote;

export function memoryFixture(wrap: WrapRemote = (remote) => remote): RemoteFixture {
  const memory = new MemoryRemote();
  return {
    remote: wrap(memory),
    features: allFeatures,
    put: async (key, bytes, options) => memory.putFile(key, bytes, options),
    putDirectory: async (key) => memory.putDirectory(key),
    putSymlink: async (key, target) => memory.putSymlink(key, target),
    putSparse: async (key, sizeBytes, tail) => {
      const tailStart = sizeBytes - tail.length;
      memory.putGenerated(key, sizeBytes, (into, offset) => {
        into.fill(0);
        const start = Math.max(0, tailStart - offset);
        const from = Math.max(0, offset - tailStart);
        if (start < into.length) into.set(tail.subarray(from, from + into.length - start), start);
      });
    },
    remove: async (key) => memory.remove(key),
    async [Symbol.asyncDispose]() {
      await memory.close();
    },
  };
}

/** How tests change an origin that is a directory of this machine. */
export interface OriginDirectory {
  pathOf(key: string): Buffer;
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void>;
  putDirectory(key: string): Promise<void>;
  putSymlink(key: string, target: string): Promise<void>;
  putSparse(key: string, sizeBytes: number, tail: Uint8Array): Promise<void>;
  putLink(key: string, target: string): Promise<void>;
  remove(key: string): Promise<void>;
}

/** Files are written aside and renamed, so that nobody sees half of one. `root` must exist. */
export function originDirectory(root: string): OriginDirectory {
  const pathOf = (key: string): Buffer => Buffer.concat([Buffer.from(`${root}/`), encodeName(key)]);
  const made = new Set<string>(['']);
  const makeParents = async (key: string): Promise<void> => {
    const parent = parentKey(key) ?? '';
    if (made.has(parent)) return;
    await mkdir(pathOf(parent), { recursive: true });
    made.add(parent);
  };
  const aside = `${root}.aside`;
  return {
    pathOf,
    async put(key, bytes, options = {}) {
      await makeParents(key);
      await writeFile(aside, bytes, { mode: 0o644 });
      await using file = await open(aside, 'r+');
      if (options.mode !== undefined) await file.chmod(options.mode);
      if (options.mtime !== undefined) setFileTimes(aside, undefined, options.mtime);
      await rename(aside, pathOf(key));
    },
    async putDirectory(key) {
      await mkdir(pathOf(key), { recursive: true });
    },
    async putSymlink(key, target) {
      await makeParents(key);
      await symlink(Buffer.from(encodeName(target)), pathOf(key));
    },
    async putSparse(key, sizeBytes, tail) {
      await makeParents(key);
      await using file = await open(pathOf(key), 'w');
      await file.truncate(sizeBytes);
      await file.write(tail, 0, tail.length, sizeBytes - tail.length);
    },
    async putLink(key, target) {
      await makeParents(key);
      await link(pathOf(target), pathOf(key));
    },
    async remove(key) {
      await lstat(pathOf(key));
      await rm(pathOf(key), { recursive: true });
    },
  };
}

export async function directoryFixture(
  wrap: WrapRemote = (remote) => remote,
): Promise<RemoteFixture & OriginDirectory & { readonly root: string }> {
  const directory = await temporaryDirectory('origin');
  const root = `${directory.path}/root`;
  await mkdir(root);
  const inner = await openDirectoryRemote(root);
  return {
    ...originDirectory(root),
    root,
    remote: wrap(inner),
    features: allFeatures,
    async [Symbol.asyncDispose]() {
      await inner.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}
