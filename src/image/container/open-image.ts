/**
 * From an image as it was found to the file system in it: the container is opened (raw or qcow2), the partition table
 * read, and one place chosen, by what the user said or because only one fits.
 */
import { ebbError } from '../../base/errors.ts';
import type { BlockDevice, DeviceRange } from '../../ext4/block-device.ts';
import { unsupported } from '../../ext4/errors.ts';
import { foreignFormat } from './foreign-format.ts';
import { readGpt } from './gpt.ts';
import { hasProtectiveEntry, readMbr } from './mbr.ts';
import type { Partition, PartitionTable } from './partition.ts';
import { Qcow2Device } from './qcow2.ts';
import { isQcow2, readQcow2Header } from './qcow2-header.ts';
import type { Qcow2Header } from './qcow2-header.ts';
import { sliceDevice } from './slice.ts';

/** A raw image is the disk itself; holes in its file are zeros. */
export type Container =
  | { readonly format: 'raw' }
  | ({ readonly format: 'qcow2' } & Omit<Qcow2Header, 'l1Entries' | 'l1OffsetBytes'>);

export interface Disk {
  readonly container: Container;
  /** What the guest sees. */
  readonly device: BlockDevice;
  readonly table: PartitionTable | undefined;
}

/** Which part of a disk is meant. At most one of both. */
export interface Selection {
  /** The file system begins here and may go to the end of the disk. */
  readonly offsetBytes?: number | undefined;
  readonly partition?: number | undefined;
}

export interface Place extends DeviceRange {
  /** undefined: the whole disk, or what an offset said. */
  readonly partition: Partition | undefined;
}

const superblockOffset = 1024;
const logBlockSizeMax = 6;

/** Throws EUCLEAN for damaged containers and tables, EOPNOTSUPP (by name) for what Ebb does not read. */
export function openDisk(image: BlockDevice): Disk {
  const { container, device } = openContainer(image);
  return { container, device, table: readTable(device) };
}

/** As Linux: a GPT behind an MBR that does not say so is what an earlier use of the disk left. */
function readTable(device: BlockDevice): PartitionTable | undefined {
  const mbr = readMbr(device);
  if (mbr !== undefined && !hasProtectiveEntry(device)) return mbr;
  return readGpt(device) ?? mbr;
}

function openContainer(image: BlockDevice): Omit<Disk, 'table'> {
  if (!isQcow2(image)) return { container: { format: 'raw' }, device: image };
  const header = readQcow2Header(image);
  const { l1Entries: _entries, l1OffsetBytes: _offset, ...facts } = header;
  return { container: { format: 'qcow2', ...facts }, device: new Qcow2Device(image, header) };
}

/**
 * Where the file system is. Throws EINVAL with a sentence when the selection is none or several places fit, EOPNOTSUPP
 * when nothing on the disk looks like ext2, ext3 or ext4.
 */
export function choosePlace(disk: Disk, selection: Selection = {}): Place {
  const { device, table } = disk;
  const { offsetBytes, partition } = selection;
  if (offsetBytes !== undefined && partition !== undefined) {
    throw ebbError('EINVAL', 'Give either offset= or partition=, not both.');
  }
  if (offsetBytes !== undefined) {
    if (!(offsetBytes >= 0 && offsetBytes < device.sizeBytes)) {
      throw ebbError('EINVAL', `offset=${offsetBytes} lies beyond the end of the image.`);
    }
    return { offsetBytes, sizeBytes: device.sizeBytes - offsetBytes, partition: undefined };
  }
  if (partition !== undefined) return placeOf(disk, partitionNumbered(table, partition));
  return autodetect(disk);
}

/** The device of a place. */
export function openPlace(disk: Disk, place: Place): BlockDevice {
  return sliceDevice(disk.device, place);
}

function autodetect(disk: Disk): Place {
  const { device, table } = disk;
  const whole: Place = { offsetBytes: 0, sizeBytes: device.sizeBytes, partition: undefined };
  const usable = (table?.partitions ?? []).filter((one) => one.offsetBytes < device.sizeBytes);
  const places = usable.filter((one) => one.sizeBytes > 0).map((one) => placeOf(disk, one));
  const fitting = [whole, ...places].filter((place) => hasSuperblock(device, place));
  const [first, second] = fitting;
  if (first !== undefined && second === undefined) return first;
  if (first !== undefined) {
    throw ebbError(
      'EINVAL',
      `The image holds ${fitting.length} ext file systems: ${fitting.map(describe).join('; ')}. ` +
        `Say which one, for example with: -o ${choiceOf(second ?? first)}`,
    );
  }
  if (table === undefined) {
    const format = foreignFormat(device);
    if (format !== undefined) throw unsupported(format);
    // The first superblock may be damaged and a backup usable: who opens it finds out.
    return whole;
  }
  const linux = places.filter(({ partition }) =>
    /^Linux( f| r| h|$)/.test(partition?.typeName ?? ''),
  );
  const [only, another] = linux;
  if (only !== undefined && another === undefined) return only;
  const found = places.map(describe).join('; ');
  throw unsupported(
    `None of the partitions looks like ext2, ext3 or ext4: ${found === '' ? 'there are none' : found}.`,
  );
}

function placeOf({ device }: Disk, partition: Partition): Place {
  const { number, offsetBytes, problem } = partition;
  const sizeBytes = Math.min(partition.sizeBytes, device.sizeBytes - offsetBytes);
  if (sizeBytes <= 0) throw ebbError('EINVAL', `Partition ${number} cannot be used: ${problem}.`);
  return { offsetBytes, sizeBytes, partition };
}

function partitionNumbered(table: PartitionTable | undefined, number: number): Partition {
  if (table === undefined) throw ebbError('EINVAL', 'The image has no partition table.');
  const found = table.partitions.find((one) => one.number === number);
  if (found !== undefined) return found;
  const numbers = table.partitions.map((one) => one.number).join(', ');
  throw ebbError('EINVAL', `There is no partition ${number}; there are: ${numbers || 'none'}.`);
}

function describe({ partition, sizeBytes }: Place): string {
  if (partition === undefined) return 'the whole disk';
  const label = partition.label === '' ? '' : ` ${JSON.stringify(partition.label)}`;
  return `partition ${partition.number}${label} (${partition.typeName}, ${sizeBytes} bytes)`;
}

function choiceOf({ partition }: Place): string {
  return partition === undefined ? 'offset=0' : `partition=${partition.number}`;
}

/** A look at the superblock: its magic number and a size of blocks that exists. */
function hasSuperblock(device: BlockDevice, { offsetBytes, sizeBytes }: DeviceRange): boolean {
  if (sizeBytes < 2 * superblockOffset) return false;
  const bytes = new Uint8Array(64);
  device.read(offsetBytes + superblockOffset, bytes);
  const view = new DataView(bytes.buffer);
  return view.getUint16(56, true) === 0xef53 && view.getUint32(24, true) <= logBlockSizeMax;
}
