/**
 * An image as it is after its journal was replayed, without a byte of it being changed: blocks that the log has in a
 * newer version are read from there, checked each time.
 */
import { checkDeviceRange } from '../block-device.ts';
import type { BlockDevice, DeviceRange } from '../block-device.ts';
import { corrupt } from '../errors.ts';
import { journalMagic } from './journal-superblock.ts';
import type { JournalSuperblock } from './journal-superblock.ts';
import type { JournalLog } from './log.ts';
import { isBlockRight, viewOf } from './records.ts';
import type { LoggedBlock } from './recover.ts';

export class ReplayOverlay implements BlockDevice {
  readonly sizeBytes: number;
  readonly #device: BlockDevice;
  readonly #log: JournalLog;
  readonly #superblock: JournalSuperblock;
  readonly #blocks: ReadonlyMap<number, LoggedBlock>;
  readonly #buffer: Uint8Array;

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
    if (blockCount > this.#blocks.size) {
      for (const block of this.#blocks.keys()) {
        if (block >= firstBlock && block < firstBlock + blockCount) return true;
      }
      return false;
    }
    for (let block = firstBlock; block < firstBlock + blockCount; block += 1) {
      if (this.#blocks.has(block)) return true;
    }
    return false;
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
      const logged = this.#blocks.get(block);
      if (logged !== undefined) {
        readPlain(done);
        into.set(this.#read(logged).subarray(within, within + take), done);
        plainFrom = done + take;
      }
      done += take;
    }
    readPlain(done);
  }

  prefetch(ranges: readonly DeviceRange[]): void {
    this.#device.prefetch?.(ranges);
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
