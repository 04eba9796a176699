/**
 * Metadata in memory. The device is read in lines of 64 KiB (the largest block), because what is
 * near will be asked for next: inode tables, directories, extent nodes. File content never comes
 * through here.
 *
 * What was found right about a block (its checksum, its entries) is remembered with it.
 */
import { toEbbError } from '../base/errors.ts';
import type { BlockDevice } from './block-device.ts';
import { corrupt, isDamage } from './errors.ts';
import { Region } from './region.ts';

const lineSizeBytes = 65_536;
const cacheMinBytes = 1024 * 1024;
export const blockCacheDefaultMaxBytes = 32 * 1024 * 1024;

export class CachedBlock extends Region {
  readonly number: number;
  /** Inode on whose behalf the block was verified last; 0 is nobody. */
  verifiedFor = 0;
  /** And what was asked of it then; owned by who verified. */
  verifiedLow = 0;
  verifiedHigh = 0;

  constructor(number: number, bytes: Uint8Array) {
    super(bytes, `block ${number}`);
    this.number = number;
  }
}

interface Line {
  readonly bytes: Uint8Array;
  readonly blocks: (CachedBlock | undefined)[];
  used: boolean;
}

export class BlockCache {
  readonly #device: BlockDevice;
  readonly #blockSizeBytes: number;
  readonly #blockCount: number;
  readonly #blocksPerLine: number;
  readonly #linesMax: number;
  readonly #lines = new Map<number, Line>();

  /** `blockCount * blockSizeBytes` must lie inside of the device. */
  constructor(
    device: BlockDevice,
    geometry: { readonly blockSizeBytes: number; readonly blockCount: number },
    maxBytes: number,
  ) {
    this.#device = device;
    this.#blockSizeBytes = geometry.blockSizeBytes;
    this.#blockCount = geometry.blockCount;
    this.#blocksPerLine = lineSizeBytes / geometry.blockSizeBytes;
    this.#linesMax = Math.floor(Math.max(maxBytes, cacheMinBytes) / lineSizeBytes);
  }

  /** The block, valid for as long as the caller holds it. EUCLEAN when there is no such block. */
  block(number: number): CachedBlock {
    if (!(number >= 0 && number < this.#blockCount)) {
      throw corrupt(`block ${number} is not in a file system of ${this.#blockCount} blocks`);
    }
    const lineNumber = Math.floor(number / this.#blocksPerLine);
    const line = this.#lines.get(lineNumber) ?? this.#load(lineNumber);
    if (line === undefined) return this.#readAlone(number);
    line.used = true;
    const index = number - lineNumber * this.#blocksPerLine;
    const known = line.blocks[index];
    if (known !== undefined) return known;
    const start = index * this.#blockSizeBytes;
    const block = new CachedBlock(number, line.bytes.subarray(start, start + this.#blockSizeBytes));
    line.blocks[index] = block;
    return block;
  }

  /** Whether `prefetch` does anything. */
  get takesHints(): boolean {
    return this.#device.prefetch !== undefined;
  }

  /** A hint to the device; blocks that are here or do not exist are left out. */
  prefetch(blocks: Iterable<number>): void {
    if (this.#device.prefetch === undefined) return;
    const lines = new Set<number>();
    for (const block of blocks) {
      const line = Math.floor(block / this.#blocksPerLine);
      if (block >= 0 && block < this.#blockCount && !this.#lines.has(line)) lines.add(line);
    }
    if (lines.size === 0) return;
    this.#device.prefetch(
      [...lines].map((line) => ({
        offsetBytes: line * lineSizeBytes,
        sizeBytes: this.#lineSize(line),
      })),
    );
  }

  #lineSize(lineNumber: number): number {
    const endBytes = this.#blockCount * this.#blockSizeBytes;
    return Math.min(lineSizeBytes, endBytes - lineNumber * lineSizeBytes);
  }

  /** For when something near cannot be read. Not kept: disks that fail are rare. */
  #readAlone(number: number): CachedBlock {
    const bytes = new Uint8Array(this.#blockSizeBytes);
    this.#device.read(number * this.#blockSizeBytes, bytes);
    return new CachedBlock(number, bytes);
  }

  /** undefined when a part of the line is lost (EIO). */
  #load(lineNumber: number): Line | undefined {
    const bytes = new Uint8Array(this.#lineSize(lineNumber));
    try {
      this.#device.read(lineNumber * lineSizeBytes, bytes);
    } catch (error) {
      if (isDamage(toEbbError(error))) return undefined;
      throw error;
    }
    while (this.#lines.size >= this.#linesMax) this.#evictOne();
    const line: Line = { bytes, blocks: [], used: true };
    this.#lines.set(lineNumber, line);
    return line;
  }

  /** Second chance: a line that was used since it was last looked at goes to the back. */
  #evictOne(): void {
    for (const [number, line] of this.#lines) {
      this.#lines.delete(number);
      if (!line.used) return;
      line.used = false;
      this.#lines.set(number, line);
    }
  }
}
