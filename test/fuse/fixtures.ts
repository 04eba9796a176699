/**
 * What the session tests share: one value per field, and a file system that notes what it is asked.
 */
import { Errno } from '../../src/base/errno.ts';
import type { Attributes, Call, FileSystem } from '../../src/fuse/filesystem.ts';

export const attributes: Attributes = {
  ino: 11,
  sizeBytes: 2 ** 40 + 5,
  blocks: 13,
  atimeSeconds: -1,
  atimeNanoseconds: 14,
  mtimeSeconds: 2 ** 33,
  mtimeNanoseconds: 15,
  ctimeSeconds: 17,
  ctimeNanoseconds: 18,
  mode: 0o100644,
  nlink: 19,
  uid: 20,
  gid: 21,
  rdev: 22,
  blockSizeBytes: 4096,
};
export const entry = {
  nodeId: 2 ** 52 + 1,
  generation: 0xdead_beef,
  entryTimeoutMs: 1500,
  attributeTimeoutMs: 2250,
  attributes,
};
export const text = (value: string): Uint8Array => Buffer.from(value);

/** Called by the session itself, before and after. */
const untold: ReadonlySet<string | symbol> = new Set(['init', 'destroy', 'admit', 'admitted']);

/** A file system all of whose methods note their arguments and answer ENOTDIR. */

export function recorder(): { fileSystem: FileSystem; calls: unknown[][] } {
  const calls: unknown[][] = [];
  const copy = (argument: unknown): unknown => {
    if (argument instanceof Uint8Array) return Buffer.from(argument).toString('latin1');
    return typeof argument === 'object' ? { ...argument } : argument;
  };
  const fileSystem = new Proxy<FileSystem>(
    {},
    {
      get:
        (_, method) =>
        (first: unknown, ...rest: unknown[]) => {
          const isCall = typeof first === 'object' && first !== null && 'unique' in first;
          if (untold.has(method)) return;
          calls.push([method, ...(isCall ? rest : [first, ...rest]).map(copy)]);
          if (isCall) (first as Call).error(Errno.ENOTDIR);
        },
    },
  );
  return { fileSystem, calls };
}
