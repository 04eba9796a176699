/**
 * Where the mark lives: `trusted.ebb` with privileges (users cannot see or change it), `user.ebb` without. Chosen
 * once per run by trying. Reading looks at both: a cache may have been used with and without privileges.
 */
import { EbbError } from '../base/errors.ts';
import { getXattr, removeXattr, setXattr } from '../sys/xattr.ts';

const names = ['trusted.ebb', 'user.ebb'] as const;

export type MarkAttributeName = (typeof names)[number];

/** Which attribute can be written on this file; undefined when the file system keeps neither. */
export function probeMarkAttribute(fd: number): MarkAttributeName | undefined {
  return names.find((name) => {
    try {
      setXattr(fd, name, Uint8Array.of(0));
      removeXattr(fd, name);
      return true;
    } catch (error) {
      if (error instanceof EbbError && isUnsupported(error)) return false;
      throw error;
    }
  });
}

/** The bytes of the mark; undefined when there is none. */
export function readMarkAttribute(fd: number): Uint8Array | undefined {
  for (const name of names) {
    try {
      const bytes = getXattr(fd, name);
      if (bytes !== undefined) return bytes;
    } catch (error) {
      if (!(error instanceof EbbError) || !isUnsupported(error)) throw error;
    }
  }
  return undefined;
}

/** Removes the mark under both names. Throws what the kernel says (EIO, EROFS, ...). */
export function removeMarkAttribute(fd: number): void {
  for (const name of names) {
    try {
      removeXattr(fd, name);
    } catch (error) {
      if (!(error instanceof EbbError) || !isUnsupported(error)) throw error;
    }
  }
}

function isUnsupported(error: EbbError): boolean {
  return error.code === 'EPERM' || error.code === 'EOPNOTSUPP' || error.code === 'EACCES';
}
