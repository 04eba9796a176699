/** Which attributes cannot be true, whatever the remote. Pure. */
import type { ObjectAttributes, Timestamp } from './remote.ts';

const idMax = 2 ** 32 - 1;

/** Why these attributes are nonsense, as the end of a sentence; undefined when they may be true. */
export function attributesProblem(attributes: ObjectAttributes): string | undefined {
  const { kind, sizeBytes, mtime, roundedMtime, mode, uid, gid, version, target } = attributes;
  if (sizeBytes !== undefined && !isCount(sizeBytes, Number.MAX_SAFE_INTEGER)) {
    return `a size of ${sizeBytes} bytes`;
  }
  for (const time of [mtime, roundedMtime]) {
    if (time !== undefined && !isTimestamp(time)) return 'a time that is none';
  }
  if (mode !== undefined && !isCount(mode, 0o7777)) return `mode ${mode}`;
  if (uid !== undefined && !isCount(uid, idMax)) return `user ${uid}`;
  if (gid !== undefined && !isCount(gid, idMax)) return `group ${gid}`;
  if (version === '') return 'an empty version';
  if (kind === 'symlink' && (target === '' || target?.includes('\0') === true)) {
    return 'a symlink target that is none';
  }
  return undefined;
}

function isCount(value: number, maximum: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= maximum;
}

function isTimestamp(time: Timestamp): boolean {
  return Number.isSafeInteger(time.seconds) && isCount(time.nanoseconds, 999_999_999);
}

/**
 * Whether two answers describe the same content as far as they tell; for remotes that have no
 * versions.
 */
export function describeSameContent(one: ObjectAttributes, other: ObjectAttributes): boolean {
  return (
    one.kind === other.kind &&
    one.version === other.version &&
    one.sizeBytes === other.sizeBytes &&
    one.mtime?.seconds === other.mtime?.seconds &&
    one.mtime?.nanoseconds === other.mtime?.nanoseconds
  );
}
