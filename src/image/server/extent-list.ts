/** Where a file's bytes are in the image file. */
import type { Inode, Volume } from '../../ext4/volume.ts';
import { mapBlockBytes } from '../erofs/plain-node.ts';
import type { PlainExtent } from '../erofs/plain-node.ts';

const numbersPerRun = 3;
const firstCapacity = 8;
/**
 * Runs of a map, holes counted, that one request looks at: all readers of the mount wait meanwhile. Tens of
 * milliseconds, where a hostile map of 16 million took as many seconds.
 */
export const runsPerRequestMax = 50_000;

/** Runs of a file that have content, rising; what lies between reads as zeros. Compact: 24 bytes each. */
export class RunList {
  #numbers = new Float64Array(firstCapacity * numbersPerRun);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Offset in the file, offset in the image and length of each, as `encodeMapRequest` wants them. A view. */
  get numbers(): Float64Array {
    return this.#numbers.subarray(0, this.#count * numbersPerRun);
  }

  fileOffset(index: number): number {
    return this.#numbers[index * numbersPerRun] ?? 0;
  }

  imageOffset(index: number): number {
    return this.#numbers[index * numbersPerRun + 1] ?? 0;
  }

  length(index: number): number {
    return this.#numbers[index * numbersPerRun + 2] ?? 0;
  }

  /** Neighbours in file and image become one. */
  add(fileOffsetBytes: number, imageOffsetBytes: number, lengthBytes: number): void {
    const last = this.#count - 1;
    if (
      last >= 0 &&
      this.fileOffset(last) + this.length(last) === fileOffsetBytes &&
      this.imageOffset(last) + this.length(last) === imageOffsetBytes
    ) {
      this.#numbers[last * numbersPerRun + 2] = this.length(last) + lengthBytes;
      return;
    }
    const at = this.#count * numbersPerRun;
    if (at === this.#numbers.length) {
      const larger = new Float64Array(at * 2);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[at] = fileOffsetBytes;
    this.#numbers[at + 1] = imageOffsetBytes;
    this.#numbers[at + 2] = lengthBytes;
    this.#count += 1;
  }

  extents(): PlainExtent[] {
    return Array.from({ length: this.#count }, (_, index) => ({
      fileOffsetBytes: this.fileOffset(index),
      imageOffsetBytes: this.imageOffset(index),
      lengthBytes: this.length(index),
    }));
  }

  /** Place in the image of `[offset, offset + lengthBytes)` when one run holds all of it. */
  placeOf(offset: number, lengthBytes: number): number | undefined {
    let low = 0;
    let high = this.#count;
    // The first run that ends after `offset`.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.fileOffset(middle) + this.length(middle) <= offset) low = middle + 1;
      else high = middle;
    }
    if (low === this.#count || this.fileOffset(low) > offset) return undefined;
    const inside = offset - this.fileOffset(low);
    return inside + lengthBytes <= this.length(low) ? this.imageOffset(low) + inside : undefined;
  }
}

export interface RunsBounds {
  /** In the result. */
  readonly runsMax: number;
  /** Looked at, with holes and what was never written: of these a map can have any number. */
  readonly lookedAtMax: number;
}

/**
 * The runs of a file. undefined when the bytes are not simply at a place in the image (inline data, encrypted), or
 * one of the bounds is exceeded. Takes less than a microsecond for each run that it looks at.
 */
export function runsOf(
  volume: Volume,
  inode: Inode,
  startBytes: number,
  { runsMax, lookedAtMax }: RunsBounds,
): RunList | undefined {
  if (!hasPlaces(inode)) return undefined;
  const { blockSizeBytes } = volume.superblock;
  const end = Math.ceil(inode.sizeBytes / blockSizeBytes);
  // A map has smaller blocks where ours are larger than a page, or begin between pages, and ends with the file.
  const unitBytes = mapBlockBytes(blockSizeBytes, startBytes) ?? blockSizeBytes;
  const endBytes = Math.ceil(inode.sizeBytes / unitBytes) * unitBytes;
  const runs = new RunList();
  let lookedAt = 0;
  for (let block = 0; block < end;) {
    lookedAt += 1;
    if (lookedAt > lookedAtMax) return undefined;
    const { physicalBlock, blockCount, unwritten } = volume.run(inode, block);
    const count = Math.min(blockCount, end - block);
    if (physicalBlock !== undefined && !unwritten) {
      const at = block * blockSizeBytes;
      const lengthBytes = Math.min(count * blockSizeBytes, endBytes - at);
      runs.add(at, startBytes + physicalBlock * blockSizeBytes, lengthBytes);
      if (runs.count > runsMax) return undefined;
    }
    block += count;
  }
  return runs;
}

/**
 * lseek(2) SEEK_DATA and SEEK_HOLE; undefined is ENXIO. Asks the map from `offset` on, so that a walk over all holes of
 * a file costs what the file has of them, once. After `runsPerRequestMax` runs it is an answer that is right enough:
 * the rest of the file is data, or there is data where the walk ended, behind holes only (who goes on from there gets
 * on).
 */
export function seekContent(
  volume: Volume,
  inode: Inode,
  offset: number,
  what: 'data' | 'hole',
): number | undefined {
  const { sizeBytes } = inode;
  if (offset >= sizeBytes) return undefined;
  const { blockSizeBytes } = volume.superblock;
  if (!hasPlaces(inode)) {
    // No inode holds more than a block: what truncate(2) put behind that is zeros.
    const dataEnd = inode.inlineData ? Math.min(sizeBytes, blockSizeBytes) : sizeBytes;
    if (what === 'hole') return Math.max(offset, dataEnd);
    return offset < dataEnd ? offset : undefined;
  }
  let at = offset;
  for (let runs = 0; at < sizeBytes; runs += 1) {
    if (runs === runsPerRequestMax) return what === 'data' ? at : sizeBytes;
    const block = Math.floor(at / blockSizeBytes);
    const { physicalBlock, blockCount, unwritten } = volume.run(inode, block);
    const isData = physicalBlock !== undefined && !unwritten;
    if (isData === (what === 'data')) return at;
    at = (block + blockCount) * blockSizeBytes;
  }
  return what === 'data' ? undefined : sizeBytes;
}

/** Neither in the inode nor encrypted. */
function hasPlaces({ type, inlineData, encrypted }: Inode): boolean {
  return type === 'file' && !inlineData && !encrypted;
}
