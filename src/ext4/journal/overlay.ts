/**
 * An image as it is after its journal was replayed, without a byte of it being changed: blocks that the log has in a
 * newer version are read from there, checked each time. What fast commits change is in patches above both.
 */
import { checkDeviceRange } from '../block-device.ts';
import type { BlockDevice, DeviceRange } from '../block-device.ts';
import { corrupt } from '../errors.ts';
import { viewOf } from '../region.ts';
import { journalMagic } from './journal-superblock.ts';
import type { JournalSuperblock } from './journal-superblock.ts';
import type { JournalLog } from './log.ts';
import { isBlockRight } from './records.ts';
import type { LoggedBlock } from './recover.ts';
import { tooMuch } from './work-budget.ts';

const patchesMaxBytes = 64 * 1024 * 1024;

export class ReplayOverlay implements BlockDevice {
  readonly sizeBytes: number;
  readonly #device: BlockDevice;
  readonly #log: JournalLog;
  readonly #superblock: JournalSuperblock;
  readonly #blocks: ReadonlyMap<number, LoggedBlock>;
  readonly #buffer: Uint8Array;
  /** Blocks that fast commits changed: newer than the image and the log. */
  readonly #patches = new Map<number, Uint8Array>();

  constructor(
    device: BlockDevice,
    log: JournalLog,
    superblock: JournalSuperblock,
    blocks: ReadonlyMap<number, LoggedBlock>,
  ) {
    this.sizeBytes = device.sizeBytes;
    this.#device = device;
    this.#log = log;
    this.#superblock = superblock;
    this.#blocks = blocks;
    this.#buffer = new Uint8Array(log.blockSizeBytes);
  }

  /** Whether the image itself has other bytes than this device in a range of blocks. */
  covers(firstBlock: number, blockCount: number): boolean {
    return [this.#blocks, this.#patches].some((blocks) => {
      if (blockCount > blocks.size) {
        return blocks
          .keys()
          .some((block) => block >= firstBlock && block < firstBlock + blockCount);
      }
      for (let block = firstBlock; block < firstBlock + blockCount; block += 1) {
        if (blocks.has(block)) return true;
      }
      return false;
    });
  }

  /**
   * The bytes of a block, to be changed: from then on this is what the device has there. EOPNOTSUPP when more than 64
   * MiB of them are asked for.
   */
  patch(block: number): Uint8Array {
    const known = this.#patches.get(block);
    if (known !== undefined) return known;
    const { blockSizeBytes } = this.#log;
    if ((this.#patches.size + 1) * blockSizeBytes > patchesMaxBytes) {
      throw tooMuch();
    }
    const bytes = new Uint8Array(blockSizeBytes);
    this.read(block * blockSizeBytes, bytes);
    this.#patches.set(block, bytes);
    return bytes;
  }

  patched(block: number): Uint8Array | undefined {
    return this.#patches.get(block);
  }

  read(offsetBytes: number, into: Uint8Array): void {
    checkDeviceRange(this, offsetBytes, into.byteLength);
    const { blockSizeBytes } = this.#log;
    let plainFrom = 0;
    let done = 0;
    const readPlain = (end: number): void => {
      if (end > plainFrom) {
        this.#device.read(offsetBytes + plainFrom, into.subarray(plainFrom, end));
      }
    };
    while (done < into.byteLength) {
      const at = offsetBytes + done;
      const block = Math.floor(at / blockSizeBytes);
      const within = at - block * blockSizeBytes;
      const take = Math.min(blockSizeBytes - within, into.byteLength - done);
      const newer = this.#newer(block);
      if (newer !== undefined) {
        readPlain(done);
        into.set(newer.subarray(within, within + take), done);
        plainFrom = done + take;
      }
      done += take;
    }
    readPlain(done);
  }

  prefetch(ranges: readonly DeviceRange[]): void {
    this.#device.prefetch?.(ranges);
  }

  /** What is not in the image, valid until the next call. */
  #newer(block: number): Uint8Array | undefined {
    const patched = this.#patches.get(block);
    if (patched !== undefined) return patched;
    const logged = this.#blocks.get(block);
    return logged === undefined ? undefined : this.#read(logged);
  }

  #read(logged: LoggedBlock): Uint8Array {
    const { logBlock, sequence, block, escaped } = logged;
    this.#log.readBlock(logBlock, this.#buffer);
    if (!isBlockRight(this.#superblock, logged, sequence, this.#buffer)) {
      throw corrupt(`the checksum of block ${block} in the journal is wrong`);
    }
    if (escaped) viewOf(this.#buffer).setUint32(0, journalMagic);
    return this.#buffer;
  }
}
