/** Extended attributes as programs see them: prefixes, values that live in inodes, ACLs. */
import { aclToAbi } from './acl.ts';
import { crc32c } from './checksum.ts';
import type { ExtendedAttribute } from './contract.ts';
import { corrupt } from './errors.ts';
import { readContent } from './file-content.ts';
import type { Image } from './image.ts';
import { InodeFlag } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import { blockAttributes, inlineAttributes } from './xattr-entries.ts';
import type { StoredAttribute } from './xattr-entries.ts';

/**
 * Prefixes that Linux lists (ext4_xattr_prefix). Not there: 7, where inline content is, and 9, the
 * context of encryption.
 */
const prefixes: ReadonlyMap<number, string> = new Map([
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [6, 'security.'],
  [10, 'gnu.'],
]);
const aclIndexes: ReadonlySet<number> = new Set([2, 3]);

/** Attributes of an inode, those in the inode first. */
export function extendedAttributes(image: Image, inode: LoadedInode): ExtendedAttribute[] {
  const stored = [
    ...inlineAttributes(image, inode, image.rawInode(inode.number)),
    ...blockAttributes(image, inode),
  ];
  const found: ExtendedAttribute[] = [];
  for (const entry of stored) {
    const prefix = prefixes.get(entry.nameIndex);
    if (prefix === undefined) continue;
    const isAcl = aclIndexes.has(entry.nameIndex);
    if (isAcl !== (entry.name.length === 0)) {
      throw corrupt(`inode ${inode.number} has an attribute of kind ${entry.nameIndex} misnamed`);
    }
    const name = Buffer.concat([Buffer.from(prefix), entry.name]);
    found.push(new LazyAttribute(image, inode, name, entry, isAcl));
  }
  return found;
}

/** Values may be 64 KiB each and many: they are read when somebody wants them, and not kept. */
class LazyAttribute implements ExtendedAttribute {
  readonly name: Uint8Array;
  readonly #image: Image;
  readonly #inode: LoadedInode;
  readonly #entry: StoredAttribute;
  readonly #isAcl: boolean;

  constructor(
    image: Image,
    inode: LoadedInode,
    name: Uint8Array,
    entry: StoredAttribute,
    isAcl: boolean,
  ) {
    this.name = name;
    this.#image = image;
    this.#inode = inode;
    this.#entry = entry;
    this.#isAcl = isAcl;
  }

  get value(): Uint8Array {
    const { valueInode, storedValue } = this.#entry;
    const value =
      valueInode === 0 ? storedValue.slice() : valueOfInode(this.#image, this.#inode, this.#entry);
    return this.#isAcl ? aclToAbi(value) : value;
  }
}

/** The value in an inode of its own (feature ea_inode). */
function valueOfInode(image: Image, owner: LoadedInode, entry: StoredAttribute): Uint8Array {
  const { valueInode, valueSizeBytes } = entry;
  if (!image.superblock.features.names.has('ea_inode')) {
    throw corrupt(`inode ${owner.number} has an attribute in another inode`);
  }
  if (valueInode < image.superblock.firstInode || valueInode > image.superblock.inodeCount) {
    throw corrupt(`inode ${owner.number} has an attribute in inode ${valueInode}`);
  }
  const inode = image.inode(valueInode);
  if (
    (inode.flags & InodeFlag.extendedAttribute) === 0 ||
    inode.type !== 'file' ||
    inode.inlineData ||
    inode.sizeBytes !== valueSizeBytes
  ) {
    throw corrupt(`inode ${valueInode} is not the attribute that inode ${owner.number} has there`);
  }
  const value = new Uint8Array(valueSizeBytes);
  readContent(image, inode, 0, value);
  if (image.verifyValues && !belongsTo(inode, owner)) {
    // The checksum of the value is kept in the place of the access time.
    const stored = inode.accessTime.seconds >>> 0;
    if (crc32c(image.superblock.checksumSeed, value, 0, value.length) !== stored) {
      throw corrupt(`the checksum of the attribute in inode ${valueInode} is wrong`);
    }
  }
  return value;
}

/** Attribute inodes of Lustre name their owner instead of keeping a checksum. */
function belongsTo(inode: LoadedInode, owner: LoadedInode): boolean {
  return (
    inode.modificationTime.seconds >>> 0 === owner.number && inode.generation === owner.generation
  );
}
