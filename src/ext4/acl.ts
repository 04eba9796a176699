/**
 * POSIX ACLs: on the disk entries without an id are short; the attributes that programs see have
 * one form for all (include/uapi/linux/posix_acl_xattr.h).
 */
import { corrupt } from './errors.ts';
import { Region } from './region.ts';

const diskVersion = 1;
const abiVersion = 2;
const headerSize = 4;
const diskShortSize = 4;
const diskLongSize = 8;
const abiEntrySize = 8;
const undefinedId = 0xffffffff;

const tags = { userObject: 0x1, user: 0x2, groupObject: 0x4, group: 0x8, mask: 0x10, other: 0x20 };
const longTags: ReadonlySet<number> = new Set([tags.user, tags.group]);
const knownTags: ReadonlySet<number> = new Set(Object.values(tags));

/** The value of system.posix_acl_*, version 2, from what the disk holds. EUCLEAN when that is none. */
export function aclToAbi(stored: Uint8Array): Uint8Array {
  const disk = new Region(stored, 'an access control list');
  if (disk.u32(0) !== diskVersion)
    throw corrupt('the version of an access control list is unknown');
  const entries: [tag: number, permissions: number, id: number][] = [];
  for (let at = headerSize; at < disk.sizeBytes;) {
    const tag = disk.u16(at);
    if (!knownTags.has(tag)) throw corrupt(`an access control list has an entry of kind ${tag}`);
    const isLong = longTags.has(tag);
    entries.push([tag, disk.u16(at + 2), isLong ? disk.u32(at + 4) : undefinedId]);
    at += isLong ? diskLongSize : diskShortSize;
  }
  const abi = new DataView(new ArrayBuffer(headerSize + entries.length * abiEntrySize));
  abi.setUint32(0, abiVersion, true);
  entries.forEach(([tag, permissions, id], index) => {
    const at = headerSize + index * abiEntrySize;
    abi.setUint16(at, tag, true);
    abi.setUint16(at + 2, permissions, true);
    abi.setUint32(at + 4, id, true);
  });
  return new Uint8Array(abi.buffer);
}
