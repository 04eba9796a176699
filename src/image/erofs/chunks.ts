/**
 * Chunk-based files of EROFS: a table with one address per chunk, all chunks of a file of one size.
 * The largest size is chosen at which no extent begins or ends inside of a chunk.
 */
import type { PlainExtent } from './plain-node.ts';

/** EROFS_NULL_ADDR: a chunk of zeros. */
const nullAddress = 0xffff_ffff;
export const chunkIndexBytes = 8;
/** Slot of the device table that the image itself is in. */
const imageDevice = 1;
/** The chunk's size in blocks is 2^n, n in five bits; 2^20 blocks are 4 GiB and make one-chunk files short enough. */
const chunkBlocksBitsMax = 20;

export interface ChunkedFile {
  /** A chunk is 2^chunkBits blocks. */
  readonly chunkBits: number;
  readonly chunkCount: number;
}

function trailingZeros(value: number): number {
  let bits = 0;
  while (bits < chunkBlocksBitsMax && value % 2 ** (bits + 1) === 0) bits += 1;
  return bits;
}

/** Neighbours in file and image become one, so that their seam does not force small chunks. */
export function mergeExtents(extents: readonly PlainExtent[]): PlainExtent[] {
  const merged: PlainExtent[] = [];
  for (const extent of extents) {
    const last = merged.at(-1);
    const isContinued =
      last !== undefined &&
      last.fileOffsetBytes + last.lengthBytes === extent.fileOffsetBytes &&
      last.imageOffsetBytes + last.lengthBytes === extent.imageOffsetBytes;
    if (isContinued) {
      merged[merged.length - 1] = { ...last, lengthBytes: last.lengthBytes + extent.lengthBytes };
    } else {
      merged.push(extent);
    }
  }
  return merged;
}

/** `extents`: merged and checked. */
export function chunksOf(
  extents: readonly PlainExtent[],
  sizeBytes: number,
  blockBytes: number,
): ChunkedFile {
  const fileBlocks = Math.ceil(sizeBytes / blockBytes);
  let chunkBits = 0;
  while (chunkBits < chunkBlocksBitsMax && 2 ** chunkBits < fileBlocks) chunkBits += 1;
  for (const { fileOffsetBytes, lengthBytes } of extents) {
    const start = fileOffsetBytes / blockBytes;
    const end = start + lengthBytes / blockBytes;
    chunkBits = Math.min(chunkBits, trailingZeros(start));
    if (end < fileBlocks) chunkBits = Math.min(chunkBits, trailingZeros(end));
  }
  return { chunkBits, chunkCount: Math.ceil(fileBlocks / 2 ** chunkBits) };
}

/** Writes the table: struct erofs_inode_chunk_index { le16 startblk_hi, le16 device_id, le32 startblk_lo }. */
export function writeChunkTable(
  into: DataView,
  at: number,
  extents: readonly PlainExtent[],
  { chunkBits, chunkCount }: ChunkedFile,
  blockBytes: number,
): void {
  for (let index = 0; index < chunkCount; index += 1) {
    into.setUint32(at + index * chunkIndexBytes + 4, nullAddress, true);
  }
  const chunkBlocks = 2 ** chunkBits;
  for (const extent of extents) {
    const first = extent.fileOffsetBytes / blockBytes / chunkBlocks;
    const count = Math.ceil(extent.lengthBytes / blockBytes / chunkBlocks);
    const address = extent.imageOffsetBytes / blockBytes;
    for (let index = 0; index < count; index += 1) {
      const entry = at + (first + index) * chunkIndexBytes;
      into.setUint16(entry + 2, imageDevice, true);
      into.setUint32(entry + 4, address + index * chunkBlocks, true);
    }
  }
}
