/**
 * MBR partition tables: four primary partitions, and logical ones in a chain of further tables (EBRs) in an extended
 * partition. Sectors have 512 bytes, as the format has them everywhere but on 4Kn disks.
 */
import type { BlockDevice } from '../../ext4/block-device.ts';
import { mbrTypeName, partitionsMax, placeProblem } from './partition.ts';
import type { Partition, PartitionTable } from './partition.ts';

export const sectorSizeBytes = 512;
const entriesOffset = 446;
const entrySizeBytes = 16;
const extendedTypes = new Set([0x05, 0x0f, 0x85]);
const protectiveType = 0xee;
const firstLogicalNumber = 5;

interface Entry {
  readonly status: number;
  readonly type: number;
  readonly firstSector: number;
  readonly sectors: number;
}

/** The table in the first sector, undefined when there is none. A damaged chain of logical partitions is a warning. */
export function readMbr(device: BlockDevice): PartitionTable | undefined {
  const primary = readEntries(device, 0);
  // Boot sectors of file systems carry the same signature; their code is not a table.
  if (primary === undefined || !primary.every(isPlausible) || primary.every(isEmpty)) {
    return undefined;
  }
  const partitions: Partition[] = [];
  const warnings: string[] = [];
  primary.forEach((entry, index) => {
    if (isEmpty(entry)) return;
    if (!extendedTypes.has(entry.type)) {
      partitions.push(partitionOf(device, entry, index + 1, entry.firstSector));
    }
  });
  for (const entry of primary) {
    if (isEmpty(entry) || !extendedTypes.has(entry.type)) continue;
    partitions.push(...readLogical(device, entry, firstLogicalOf(partitions), warnings));
  }
  return { kind: 'mbr', partitions, warnings };
}

/** Whether the first sector says that a GPT follows. */
export function hasProtectiveEntry(device: BlockDevice): boolean {
  return readEntries(device, 0)?.some(({ type }) => type === protectiveType) === true;
}

function firstLogicalOf(known: readonly Partition[]): number {
  return Math.max(firstLogicalNumber, ...known.map(({ number }) => number + 1));
}

/**
 * Follows the chain. In each EBR the first entry is a partition, relative to that EBR; the second is the next EBR,
 * relative to the extended partition. Ends at `partitionsMax` and at a table that was there before.
 */
function readLogical(
  device: BlockDevice,
  extended: Entry,
  firstNumber: number,
  warnings: string[],
): Partition[] {
  const found: Partition[] = [];
  const seen = new Set<number>();
  let sector = extended.firstSector;
  for (;;) {
    if (seen.has(sector) || seen.size >= partitionsMax) {
      warnings.push('the chain of logical partitions does not end');
      break;
    }
    seen.add(sector);
    const entries = readEntries(device, sector);
    if (entries === undefined) {
      warnings.push(`there is no table of logical partitions at sector ${sector}`);
      break;
    }
    const data = entries.find((entry) => !isEmpty(entry) && !extendedTypes.has(entry.type));
    if (data !== undefined) {
      const number = firstNumber + found.length;
      found.push(partitionOf(device, data, number, sector + data.firstSector));
    }
    const next = entries.find((entry) => !isEmpty(entry) && extendedTypes.has(entry.type));
    if (next === undefined) break;
    sector = extended.firstSector + next.firstSector;
  }
  return found;
}

function partitionOf(
  device: BlockDevice,
  { type, sectors }: Entry,
  number: number,
  firstSector: number,
): Partition {
  const offsetBytes = firstSector * sectorSizeBytes;
  const sizeBytes = sectors * sectorSizeBytes;
  return {
    number,
    offsetBytes,
    sizeBytes,
    typeId: type.toString(16).padStart(2, '0'),
    typeName: mbrTypeName(type),
    label: '',
    problem: placeProblem(offsetBytes, sizeBytes, device.sizeBytes),
  };
}

function isEmpty({ type, sectors }: Entry): boolean {
  return type === 0 || sectors === 0;
}

function isPlausible(entry: Entry): boolean {
  return entry.status === 0 || entry.status === 0x80;
}

function readEntries(device: BlockDevice, sector: number): Entry[] | undefined {
  const offsetBytes = sector * sectorSizeBytes;
  if (offsetBytes + sectorSizeBytes > device.sizeBytes) return undefined;
  const bytes = new Uint8Array(sectorSizeBytes);
  device.read(offsetBytes, bytes);
  const view = new DataView(bytes.buffer);
  if (view.getUint16(510) !== 0x55aa) return undefined;
  return [0, 1, 2, 3].map((index) => {
    const at = entriesOffset + index * entrySizeBytes;
    return {
      status: view.getUint8(at),
      type: view.getUint8(at + 4),
      firstSector: view.getUint32(at + 8, true),
      sectors: view.getUint32(at + 12, true),
    };
  });
}
