/** Compressed clusters of qcow2 images: raw deflate (RFC 1951, window of 4 KiB) or zstd (RFC 8878). */
import { zlib } from '../../base/late-modules.ts';
import { corrupt } from '../../ext4/errors.ts';

/** What a zstd frame may make us allocate: 8 MiB. QEMU's frames need no more than a cluster, 2 MiB. */
const zstdWindowLogMax = 23;

/** QEMU writes one frame for a cluster. Each costs a fraction of a millisecond, and may be ten bytes long. */
const zstdFramesMax = 16;

const zstdMagic = 0xfd2fb528;
/** Block_Type RLE_Block: its size is that of what it becomes. */
const runOfOneByte = 1;

/**
 * The content of one cluster. `packed` may end in bytes that do not belong to it. Throws EUCLEAN unless exactly
 * `sizeBytes` come out; never makes more than that.
 */
export function inflateCluster(
  packed: Uint8Array,
  compression: 'deflate' | 'zstd',
  sizeBytes: number,
): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes =
      compression === 'deflate'
        ? zlib().inflateRawSync(packed, { maxOutputLength: sizeBytes })
        : unpackZstd(packed, sizeBytes);
  } catch {
    throw corrupt(`a compressed cluster (${compression}) cannot be unpacked`);
  }
  if (bytes.byteLength !== sizeBytes) {
    throw corrupt(`a compressed cluster has ${bytes.byteLength} bytes, not ${sizeBytes}`);
  }
  return bytes;
}

/**
 * Frames until there are enough bytes. The end of a frame is found here, because what follows may be a frame, too: that
 * of the next cluster.
 */
function unpackZstd(packed: Uint8Array, sizeBytes: number): Uint8Array {
  const { constants, zstdDecompressSync } = zlib();
  const parts: Uint8Array[] = [];
  let at = 0;
  let done = 0;
  while (done < sizeBytes && at < packed.byteLength) {
    if (parts.length === zstdFramesMax) throw new RangeError('too many frames');
    const end = zstdFrameEnd(packed, at);
    const part = zstdDecompressSync(packed.subarray(at, end), {
      maxOutputLength: sizeBytes - done,
      params: { [constants.ZSTD_d_windowLogMax]: zstdWindowLogMax },
    });
    parts.push(part);
    done += part.byteLength;
    at = end;
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

/** Where the frame that begins at `start` ends (RFC 8878, section 3.1.1). Throws RangeError when it does not. */
function zstdFrameEnd(packed: Uint8Array, start: number): number {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  if (view.getUint32(start, true) !== zstdMagic) throw new RangeError('not a frame');
  const descriptor = view.getUint8(start + 4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const sizeFieldBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let at = start + 5 + (singleSegment ? 0 : 1) + dictionaryBytes + sizeFieldBytes;
  for (;;) {
    const header = view.getUint16(at, true) + view.getUint8(at + 2) * 65_536;
    const type = (header >> 1) & 3;
    at += 3 + (type === runOfOneByte ? 1 : header >> 3);
    if ((header & 1) !== 0) break;
  }
  return at + ((descriptor & 4) === 0 ? 0 : 4);
}
