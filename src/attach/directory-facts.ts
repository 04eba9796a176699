/**
 * What the remote says of a directory itself: kept with the fact that it was listed, so that a later listing shows
 * whether the remote changed it, or only users here did.
 */
import { Buffer } from 'node:buffer';
import { fchmodSync, fchownSync } from 'node:fs';
import { toEbbError } from '../base/errors.ts';
import type { ObjectAttributes } from '../remote/remote.ts';
import { setFileTimes } from '../sys/stat.ts';
import { setXattr } from '../sys/xattr.ts';

/** Where the remote gives none. */
export interface AttributeDefaults {
  readonly fileMode: number;
  readonly directoryMode: number;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

interface StoredFacts {
  readonly m?: number;
  readonly u?: number;
  readonly g?: number;
  readonly t?: readonly [seconds: number, nanoseconds: number];
  readonly x?: readonly (readonly [name: string, base64: string])[];
}

/** Equal strings mean equal attributes. */
export function encodeDirectoryFacts(attributes: ObjectAttributes): string {
  const { mode, uid, gid, mtime, xattrs } = attributes;
  const facts: StoredFacts = {
    ...(mode === undefined ? {} : { m: mode }),
    ...(uid === undefined ? {} : { u: uid }),
    ...(gid === undefined ? {} : { g: gid }),
    ...(mtime === undefined ? {} : { t: [mtime.seconds, mtime.nanoseconds] as const }),
    ...(xattrs === undefined ? {} : { x: [...xattrs].map(storedXattr).toSorted(byName) }),
  };
  return JSON.stringify(facts);
}

function storedXattr([name, value]: readonly [string, Uint8Array]): readonly [string, string] {
  return [name, Buffer.from(value).toString('base64')];
}

function byName(left: readonly [string, string], right: readonly [string, string]): number {
  return left[0] < right[0] ? -1 : 1;
}

/** Inverse of `encodeDirectoryFacts`. */
export function decodeDirectoryFacts(text: string): ObjectAttributes {
  const { m, u, g, t, x } = JSON.parse(text) as StoredFacts;
  return {
    kind: 'directory',
    ...(m === undefined ? {} : { mode: m }),
    ...(u === undefined ? {} : { uid: u }),
    ...(g === undefined ? {} : { gid: g }),
    ...(t === undefined ? {} : { mtime: { seconds: t[0], nanoseconds: t[1] } }),
    ...(x === undefined
      ? {}
      : { xattrs: new Map(x.map(([name, value]) => [name, Buffer.from(value, 'base64')])) }),
  };
}

/**
 * Owner, mode, attributes, and last the time, which all else would move. False: nobody may change the directory (chattr
 * +i). Throws others' errno.
 */
export function applyDirectoryFacts(
  fd: number,
  attributes: ObjectAttributes,
  defaults: AttributeDefaults,
): boolean {
  try {
    fchownSync(fd, attributes.uid ?? defaults.uid ?? 0, attributes.gid ?? defaults.gid ?? 0);
    fchmodSync(fd, attributes.mode ?? defaults.directoryMode);
    for (const [name, value] of attributes.xattrs ?? []) setXattr(fd, name, value);
    if (attributes.mtime !== undefined) setFileTimes(fd, undefined, attributes.mtime);
    return true;
  } catch (thrown) {
    const error = toEbbError(thrown);
    if (error.code === 'EPERM') return false;
    throw error;
  }
}
