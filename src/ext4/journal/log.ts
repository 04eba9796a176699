/** The blocks of a journal, by their place in it. */
import type { BlockDevice } from '../block-device.ts';
import type { Extent } from '../contract.ts';
import { corrupt } from '../errors.ts';

/** Extents of a journal; mke2fs makes one, fragmented file systems hundreds. */
const extentsMax = 1_000_000;
/** The log is read in pieces of this size: between records there are blocks that nobody asked for yet. */
const pieceMaxBytes = 64 * 1024;

export class JournalLog {
  /** Blocks that there are without a hole, from the first one on. */
  readonly blockCount: number;
  readonly blockSizeBytes: number;
  readonly #device: BlockDevice;
  readonly #extents: Extent[] = [];
  /** By place on the device; extents do not overlap in a sound image, and in others it does not matter. */
  #places: readonly Extent[] | undefined;
  #piece: { first: number; bytes: Uint8Array } = { first: 0, bytes: new Uint8Array() };

  /** `extents` rise without a gap, from block 0 on; what comes after a gap is not part of it. */
  constructor(device: BlockDevice, blockSizeBytes: number, extents: Iterable<Extent>) {
    this.#device = device;
    this.blockSizeBytes = blockSizeBytes;
    let end = 0;
    for (const extent of extents) {
      if (extent.logicalBlock !== end || extent.unwritten) break;
      if (this.#extents.length >= extentsMax) throw corrupt('the journal has too many extents');
      this.#extents.push(extent);
      end += extent.blockCount;
    }
    this.blockCount = end;
  }

  /** A block of the journal; valid until the next call. `end`: nothing from there on will be asked for soon. */
  block(index: number, end = index + 1): Uint8Array {
    const { first, bytes } = this.#piece;
    const within = (index - first) * this.blockSizeBytes;
    if (within >= 0 && within < bytes.length) {
      return bytes.subarray(within, within + this.blockSizeBytes);
    }
    const { physicalBlock, blockCount } = this.#run(index);
    const count = Math.min(
      blockCount,
      Math.max(end - index, 1),
      Math.max(1, pieceMaxBytes / this.blockSizeBytes),
    );
    const piece = new Uint8Array(count * this.blockSizeBytes);
    this.#device.read(physicalBlock * this.blockSizeBytes, piece);
    this.#piece = { first: index, bytes: piece };
    return piece.subarray(0, this.blockSizeBytes);
  }

  /** Reads one block where it is wanted; nothing is kept. */
  readBlock(index: number, into: Uint8Array): void {
    this.#device.read(this.#run(index).physicalBlock * this.blockSizeBytes, into);
  }

  /** Whether a block of the file system is one of the journal. */
  owns(block: number): boolean {
    this.#places ??= [...this.#extents].sort((a, b) => a.physicalBlock - b.physicalBlock);
    const last = lastWhere(this.#places, ({ physicalBlock }) => physicalBlock <= block);
    return last !== undefined && block < last.physicalBlock + last.blockCount;
  }

  #run(index: number): { physicalBlock: number; blockCount: number } {
    const extent = lastWhere(this.#extents, ({ logicalBlock }) => logicalBlock <= index);
    if (extent === undefined || index >= this.blockCount) {
      throw corrupt(`block ${index} is not in a journal of ${this.blockCount} blocks`);
    }
    const skipped = index - extent.logicalBlock;
    return {
      physicalBlock: extent.physicalBlock + skipped,
      blockCount: extent.blockCount - skipped,
    };
  }
}

/** The last element that is so; those that are come first. */
function lastWhere<Value>(sorted: readonly Value[], isSo: (value: Value) => boolean) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const value = sorted[middle];
    if (value !== undefined && isSo(value)) low = middle + 1;
    else high = middle;
  }
  return sorted[low - 1];
}
