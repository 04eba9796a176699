/** Where the kernel says that a file's blocks are (Documentation/filesystems/fiemap.rst). */
import { fileExtents } from '../../../src/sys/fiemap.ts';

export interface MappedRange {
  readonly logicalBytes: number;
  readonly physicalBytes: number;
  readonly lengthBytes: number;
  readonly unwritten: boolean;
}

const extentsPerCall = 500;

/** All mapped ranges of an open file, adjoining ones joined; none of inline content. */
export function fiemap(descriptor: number): MappedRange[] {
  const ranges: MappedRange[] = [];
  for (let start = 0, isLast = false; !isLast;) {
    const extents = fileExtents(descriptor, start, Number.MAX_SAFE_INTEGER - start, extentsPerCall);
    isLast = extents.length === 0;
    for (const extent of extents) {
      const { logicalBytes, physicalBytes, lengthBytes, isUnwritten: unwritten } = extent;
      isLast ||= extent.isLast;
      start = logicalBytes + lengthBytes;
      if (!extent.isInline) ranges.push({ logicalBytes, physicalBytes, lengthBytes, unwritten });
    }
  }
  return joined(ranges);
}

/** Ranges that go on where the one before ends become one. */
export function joined(ranges: Iterable<MappedRange>): MappedRange[] {
  const result: MappedRange[] = [];
  for (const range of ranges) {
    const last = result.at(-1);
    if (
      last !== undefined &&
      last.unwritten === range.unwritten &&
      last.logicalBytes + last.lengthBytes === range.logicalBytes &&
      last.physicalBytes + last.lengthBytes === range.physicalBytes
    ) {
      result[result.length - 1] = { ...last, lengthBytes: last.lengthBytes + range.lengthBytes };
    } else {
      result.push(range);
    }
  }
  return result;
}
