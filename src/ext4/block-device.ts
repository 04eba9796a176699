/**
 * Where the bytes of an image come from. The contract is synchronous on purpose: a reader of a file
 * system chases pointers, and the process that does it has nothing else to do
 * (docs/decisions/0020-images-are-read-synchronously.md).
 */
import { readSync } from 'node:fs';
import { toEbbError } from '../base/errors.ts';
import { inputOutput } from './errors.ts';

export interface DeviceRange {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface BlockDevice {
  /** 0 <= sizeBytes < 2^53. Does not change. */
  readonly sizeBytes: number;

  /**
   * Fills the whole buffer with the bytes from `offsetBytes` on, any alignment. Throws EbbError: EIO
   * past the end and when the bytes cannot be had. Synchronous; may block its thread (a remote image
   * is recalled by another thread or process). The buffer is not kept.
   */
  read(offsetBytes: number, into: Uint8Array): void;

  /** These will be read soon. A hint: never blocks, never throws, may be ignored. */
  prefetch?(ranges: readonly DeviceRange[]): void;
}

/** Throws EIO unless the range lies inside of the device. For implementations of `read`. */
export function checkDeviceRange(device: BlockDevice, offsetBytes: number, size: number): void {
  if (
    !Number.isSafeInteger(offsetBytes) ||
    offsetBytes < 0 ||
    offsetBytes + size > device.sizeBytes
  ) {
    throw inputOutput(
      `${size} bytes at ${offsetBytes} lie outside of the image of ${device.sizeBytes} bytes`,
    );
  }
}

/** An image in memory. The bytes are not copied: who changes them changes the device. */
export function memoryDevice(bytes: Uint8Array): BlockDevice {
  const device: BlockDevice = {
    sizeBytes: bytes.byteLength,
    read(offsetBytes, into) {
      checkDeviceRange(device, offsetBytes, into.byteLength);
      into.set(bytes.subarray(offsetBytes, offsetBytes + into.byteLength));
    },
  };
  return device;
}

/**
 * An image in a file (or block device) that is open for reading. The descriptor stays the caller's.
 * `sizeBytes` is what the caller found out; a file that is shorter by then gives EIO.
 */
export function fileDevice(descriptor: number, sizeBytes: number): BlockDevice {
  const device: BlockDevice = {
    sizeBytes,
    read(offsetBytes, into) {
      checkDeviceRange(device, offsetBytes, into.byteLength);
      let done = 0;
      while (done < into.byteLength) {
        const count = readSome(descriptor, into, done, offsetBytes + done);
        if (count === 0) throw inputOutput(`The image ends at ${offsetBytes + done} bytes`);
        done += count;
      }
    },
  };
  return device;
}

function readSome(descriptor: number, into: Uint8Array, start: number, position: number): number {
  for (;;) {
    try {
      return readSync(descriptor, into, start, into.byteLength - start, position);
    } catch (error) {
      const known = toEbbError(error);
      if (known.code === 'EINTR' || known.code === 'EAGAIN') continue;
      throw inputOutput(`The image cannot be read at ${position}: ${known.message}`, error);
    }
  }
}
