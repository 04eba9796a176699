/**
 * What the access control list of a file (acl(5)) leaves of its mode, where modes alone are enforced. With a list the
 * group bits of the mode are the mask: the most that the group and those who are named may, not what the group may.
 * And who is named may be allowed less than everybody else. Pure.
 */

export const accessListName = 'system.posix_acl_access';

/** struct posix_acl_xattr_header, posix_acl_xattr_entry (linux/posix_acl_xattr.h): little-endian everywhere. */
const version = 2;
const headerBytes = 4;
const entryBytes = 8;
const Tag = { userObject: 1, user: 2, groupObject: 4, group: 8, mask: 16, other: 32 } as const;

const allBits = 7;
const groupShift = 3;
/** All of the mode but what the group and others may. */
const withoutOthers = 0o7700;

/**
 * The mode without what it would allow to somebody whom the list does not allow it: those who are named may be in the
 * group, or among the others. It may allow less than the list, to those who are named. A list that is none: the owner's
 * bits alone.
 */
export function modeWithin(mode: number, list: Uint8Array): number {
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const isList =
    list.length >= headerBytes &&
    (list.length - headerBytes) % entryBytes === 0 &&
    view.getUint32(0, true) === version;
  if (!isList) return mode & withoutOthers;
  const found = new Map<number, number[]>();
  for (let at = headerBytes; at < list.length; at += entryBytes) {
    const tag = view.getUint16(at, true);
    found.set(tag, [...(found.get(tag) ?? []), view.getUint16(at + 2, true)]);
  }
  /** What all entries of a kind allow; all where there is none. */
  const common = (tag: number): number =>
    (found.get(tag) ?? []).reduce((left, right) => left & right, allBits);
  const mask = common(Tag.mask);
  const named = (tag: number): number => (found.has(tag) ? common(tag) & mask : allBits);
  const users = named(Tag.user);
  const group = common(Tag.groupObject) & mask & users;
  const other = common(Tag.other) & users & named(Tag.group);
  return mode & (withoutOthers | (group << groupShift) | other);
}
