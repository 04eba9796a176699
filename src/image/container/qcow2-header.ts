/**
 * The header of a qcow2 image, versions 2 and 3 (QEMU, docs/interop/qcow2.txt). Everything that is used is checked
 * here. An image may name other files: they are never opened, because who made the image chose the names.
 */
import type { BlockDevice } from '../../ext4/block-device.ts';
import { corrupt, unsupported } from '../../ext4/errors.ts';

export interface Qcow2Header {
  readonly version: 2 | 3;
  /** 512 to 2 MiB. */
  readonly clusterSizeBytes: number;
  /** What the guest sees. */
  readonly sizeBytes: number;
  /** 8-byte entries. */
  readonly l1Entries: number;
  readonly l1OffsetBytes: number;
  readonly compression: 'deflate' | 'zstd';
  readonly snapshots: number;
  /** The writer did not finish; reference counts may be wrong, which reading does not need. */
  readonly dirty: boolean;
  /** QEMU found damage in it; it can still be read. */
  readonly markedCorrupt: boolean;
}

const magic = 0x51_46_49_fb;
const headerSizeV2 = 72;
const headerSizeV3 = 104;
/** QEMU's own limit (QCOW_MAX_L1_SIZE): 32 MiB. */
const l1EntriesMax = (32 * 1024 * 1024) / 8;
const clusterBitsMin = 9;
const clusterBitsMax = 21;
const backingNameMaxBytes = 1023;

const incompatible = { dirty: 0, corrupt: 1, dataFile: 2, compression: 3, extendedL2: 4 } as const;

/** Whether an image begins as qcow2 does. */
export function isQcow2(device: BlockDevice): boolean {
  if (device.sizeBytes < 4) return false;
  return viewOf(device, 0, 4).getUint32(0) === magic;
}

/**
 * Reads the header. Throws EUCLEAN when it contradicts itself, EOPNOTSUPP (by name) for backing files, external data
 * files, encryption and extended L2 entries.
 */
export function readQcow2Header(device: BlockDevice): Qcow2Header {
  if (device.sizeBytes < headerSizeV2) throw corrupt('the qcow2 header is cut off');
  const wholeSize = Math.min(device.sizeBytes, headerSizeV3 + 8);
  const view = viewOf(device, 0, wholeSize);
  if (view.getUint32(0) !== magic) throw corrupt('it does not begin as a qcow2 image');
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) {
    throw unsupported(`Ebb reads qcow2 images of versions 2 and 3, not ${version}.`);
  }
  if (version === 3 && wholeSize < headerSizeV3) throw corrupt('the qcow2 header is cut off');
  const features = version === 3 ? readFeatures(view, wholeSize) : noFeatures;
  if (view.getUint32(32) !== 0) {
    throw unsupported('The qcow2 image is encrypted; Ebb holds no keys. Convert it with qemu-img.');
  }
  refuseBackingFile(device, view);
  const clusterBits = view.getUint32(20);
  if (clusterBits < clusterBitsMin || clusterBits > clusterBitsMax) {
    throw corrupt(`the qcow2 header says that clusters have 2^${clusterBits} bytes`);
  }
  const clusterSizeBytes = 2 ** clusterBits;
  const sizeBytes = number64(view, 24, 'the size');
  const l1Entries = view.getUint32(36);
  const l1OffsetBytes = number64(view, 40, 'the place of the L1 table');
  const needed = Math.ceil(sizeBytes / clusterSizeBytes / (clusterSizeBytes / 8));
  if (l1Entries > l1EntriesMax || l1Entries < needed) {
    throw corrupt(`the L1 table of the qcow2 image has ${l1Entries} entries, it needs ${needed}`);
  }
  if (l1OffsetBytes % clusterSizeBytes !== 0 || l1OffsetBytes + l1Entries * 8 > device.sizeBytes) {
    throw corrupt('the L1 table of the qcow2 image is not inside of it');
  }
  return {
    version,
    clusterSizeBytes,
    sizeBytes,
    l1Entries,
    l1OffsetBytes,
    snapshots: view.getUint32(60),
    ...features,
  };
}

type FeatureFacts = Pick<Qcow2Header, 'compression' | 'dirty' | 'markedCorrupt'>;
const noFeatures: FeatureFacts = { compression: 'deflate', dirty: false, markedCorrupt: false };

function readFeatures(view: DataView, wholeSize: number): FeatureFacts {
  const bits = view.getBigUint64(72);
  const has = (bit: number): boolean => ((bits >> BigInt(bit)) & 1n) === 1n;
  if (has(incompatible.dataFile)) {
    throw unsupported(
      'The content of this qcow2 image is in another file (external data file), which Ebb never opens.',
    );
  }
  if (has(incompatible.extendedL2)) {
    throw unsupported('Ebb does not read qcow2 images with extended L2 entries (extended_l2=on).');
  }
  const unknown = bits >> BigInt(Object.keys(incompatible).length);
  if (unknown !== 0n) {
    const bit = bits.toString(2).length - 1;
    throw unsupported(`The qcow2 image uses a feature that Ebb does not know (bit ${bit}).`);
  }
  const headerLength = view.getUint32(100);
  if (headerLength < headerSizeV3 || headerLength % 8 !== 0) {
    throw corrupt(`the qcow2 header says that it has ${headerLength} bytes`);
  }
  const hasType = headerLength > headerSizeV3 && wholeSize > headerSizeV3;
  const type = hasType ? view.getUint8(headerSizeV3) : 0;
  if (has(incompatible.compression) !== (type !== 0)) {
    throw corrupt('the qcow2 header contradicts itself about its compression');
  }
  if (type > 1) throw unsupported(`Ebb does not know compression type ${type} of qcow2 images.`);
  return {
    compression: type === 1 ? 'zstd' : 'deflate',
    dirty: has(incompatible.dirty),
    markedCorrupt: has(incompatible.corrupt),
  };
}

function refuseBackingFile(device: BlockDevice, view: DataView): void {
  const offset = view.getBigUint64(8);
  if (offset === 0n) return;
  const size = view.getUint32(16);
  let name = 'a name that is cut off';
  if (size <= backingNameMaxBytes && offset + BigInt(size) <= BigInt(device.sizeBytes)) {
    const bytes = new Uint8Array(size);
    device.read(Number(offset), bytes);
    name = JSON.stringify(Buffer.from(bytes).toString('utf8'));
  }
  throw unsupported(
    `The qcow2 image needs a backing file, ${name}. Ebb never opens files that an image names; make it whole with: ` +
      'qemu-img convert -O qcow2 IMAGE WHOLE',
  );
}

function number64(view: DataView, offset: number, what: string): number {
  const value = view.getBigUint64(offset);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw corrupt(`${what} of the qcow2 image is above 2^53`);
  }
  return Number(value);
}

function viewOf(device: BlockDevice, offsetBytes: number, sizeBytes: number): DataView {
  const bytes = new Uint8Array(sizeBytes);
  device.read(offsetBytes, bytes);
  return new DataView(bytes.buffer);
}
