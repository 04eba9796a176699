/** FIEMAP: where a file's blocks are (linux/fiemap.h, Documentation/filesystems/fiemap.rst). */
import { checkOffset, lastErrno, systemError } from './ffi.ts';
import { ioctlBytes } from './ioctl.ts';

const FS_IOC_FIEMAP = 0xc020_660b;
const headerBytes = 32;
const extentBytes = 56;
const flags = { last: 0x1, inline: 0x200, unwritten: 0x800, shared: 0x2000 } as const;

export interface FileExtent {
  readonly logicalBytes: number;
  readonly physicalBytes: number;
  readonly lengthBytes: number;
  /** Allocated, and reads as zeros. */
  readonly isUnwritten: boolean;
  /** The content lies in the inode. */
  readonly isInline: boolean;
  /** Other files, or other parts of this one, have the same blocks. */
  readonly isShared: boolean;
  /** No other extent of the file follows. */
  readonly isLast: boolean;
}

/**
 * The first extents of a range, `extentsMax` at the most, also behind the file's end. Without FIEMAP_FLAG_SYNC: what is
 * not allocated yet may be left out. Throws EOPNOTSUPP.
 */
export function fileExtents(
  fd: number,
  offsetBytes: number,
  lengthBytes: number,
  extentsMax: number,
): FileExtent[] {
  checkOffset(offsetBytes, 'An offset');
  checkOffset(lengthBytes, 'A length');
  const bytes = Buffer.alloc(headerBytes + extentsMax * extentBytes);
  bytes.writeBigUInt64LE(BigInt(offsetBytes), 0);
  bytes.writeBigUInt64LE(BigInt(lengthBytes), 8);
  bytes.writeUInt32LE(extentsMax, 24);
  if (ioctlBytes(fd, FS_IOC_FIEMAP, bytes) < 0) {
    throw systemError(lastErrno(), 'ioctl(FIEMAP)', `descriptor ${fd}`);
  }
  const count = bytes.readUInt32LE(20);
  return Array.from({ length: count }, (_, index) => {
    const at = headerBytes + index * extentBytes;
    const flag = bytes.readUInt32LE(at + 40);
    return {
      logicalBytes: Number(bytes.readBigUInt64LE(at)),
      physicalBytes: Number(bytes.readBigUInt64LE(at + 8)),
      lengthBytes: Number(bytes.readBigUInt64LE(at + 16)),
      isUnwritten: (flag & flags.unwritten) !== 0,
      isInline: (flag & flags.inline) !== 0,
      isShared: (flag & flags.shared) !== 0,
      isLast: (flag & flags.last) !== 0,
    };
  });
}
