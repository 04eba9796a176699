/** Where the kernel says that a file's blocks are (Documentation/filesystems/fiemap.rst). */
import { ioctlBytes } from '../../../src/sys/ioctl.ts';

export interface MappedRange {
  readonly logicalBytes: number;
  readonly physicalBytes: number;
  readonly lengthBytes: number;
  readonly unwritten: boolean;
}

const fiemapRequest = 0xc020660b;
const headerSize = 32;
const extentSize = 56;
const extentsPerCall = 500;
const flags = { last: 0x1, inline: 0x200, unwritten: 0x800 };

/** All mapped ranges of an open file, adjoining ones joined; none of inline content. */
export function fiemap(descriptor: number): MappedRange[] {
  const ranges: MappedRange[] = [];
  for (let start = 0n, isLast = false; !isLast;) {
    const bytes = Buffer.alloc(headerSize + extentsPerCall * extentSize);
    bytes.writeBigUInt64LE(start, 0);
    bytes.writeBigUInt64LE(2n ** 63n - 1n - start, 8);
    bytes.writeUInt32LE(extentsPerCall, 24);
    const result = ioctlBytes(descriptor, fiemapRequest, bytes);
    if (result < 0) throw new Error('FIEMAP failed');
    const count = bytes.readUInt32LE(20);
    isLast = count === 0;
    for (let at = headerSize; at < headerSize + count * extentSize; at += extentSize) {
      const flag = bytes.readUInt32LE(at + 40);
      const logical = bytes.readBigUInt64LE(at);
      const length = bytes.readBigUInt64LE(at + 16);
      if ((flag & flags.last) !== 0) isLast = true;
      start = logical + length;
      if ((flag & flags.inline) !== 0) continue;
      ranges.push({
        logicalBytes: Number(logical),
        physicalBytes: Number(bytes.readBigUInt64LE(at + 8)),
        lengthBytes: Number(length),
        unwritten: (flag & flags.unwritten) !== 0,
      });
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
