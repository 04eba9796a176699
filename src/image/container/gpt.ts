/**
 * GUID partition tables (UEFI specification, chapter 5): a header and an array of entries, both with a CRC, and a copy
 * of both at the end of the disk. A copy is used when the first is damaged, and that is said.
 */
import { zlib } from '../../base/late-modules.ts';
import type { BlockDevice } from '../../ext4/block-device.ts';
import { corrupt } from '../../ext4/errors.ts';
import { hasProtectiveEntry } from './mbr.ts';
import { gptTypeName, partitionsMax, placeProblem } from './partition.ts';
import type { Partition, PartitionTable } from './partition.ts';

const headerSizeMin = 92;
const entrySizeMin = 128;
const entrySizeMax = 4096;
/** Bytes of all entries; 128 entries of 128 bytes are 16 KiB. */
const entriesMaxBytes = 1024 * 1024;
const signature = 'EFI PART';
const sectorSizes = [512, 4096] as const;
const unusedType = '00000000-0000-0000-0000-000000000000';

/**
 * The table, undefined when there is none. Throws EUCLEAN when there is one and neither it nor its copy can be used.
 */
export function readGpt(device: BlockDevice): PartitionTable | undefined {
  const reasons: string[] = [];
  for (const sectorSizeBytes of sectorSizes) {
    const lastSector = Math.floor(device.sizeBytes / sectorSizeBytes) - 1;
    for (const sector of [1, lastSector]) {
      const found = tryRead(device, sectorSizeBytes, sector, reasons);
      if (found === undefined) continue;
      const warnings =
        sector === 1
          ? []
          : [
              `the first partition table is damaged (${reasons[0] ?? 'it is gone'}), its copy is used`,
            ];
      // Without its mark in the first sector a copy at the end is what an earlier use of the disk left.
      if (sector !== 1 && !hasProtectiveEntry(device)) continue;
      return { kind: 'gpt', partitions: found, warnings };
    }
  }
  if (reasons.length > 0 && hasProtectiveEntry(device)) {
    throw corrupt(`its GUID partition table: ${reasons.join('; ')}`);
  }
  return undefined;
}

function tryRead(
  device: BlockDevice,
  sectorSizeBytes: number,
  sector: number,
  reasons: string[],
): Partition[] | undefined {
  const view = readBytes(device, sector * sectorSizeBytes, sectorSizeBytes);
  if (sector < 1 || view === undefined || textOf(view, 0, 8) !== signature) return undefined;
  const fail = (why: string): undefined => void reasons.push(`header at sector ${sector}: ${why}`);
  const headerSize = view.getUint32(12, true);
  if (headerSize < headerSizeMin || headerSize > sectorSizeBytes) return fail('its size is wrong');
  const stored = view.getUint32(16, true);
  view.setUint32(16, 0);
  if (zlib().crc32(new Uint8Array(view.buffer, 0, headerSize)) !== stored) {
    return fail('its checksum is wrong');
  }
  if (number64(view, 24) !== sector) return fail('it says that it is elsewhere');
  const entriesSector = number64(view, 72);
  const count = view.getUint32(80, true);
  const entrySize = view.getUint32(84, true);
  if (entrySize < entrySizeMin || entrySize > entrySizeMax || entrySize % 8 !== 0) {
    return fail(`its entries have ${entrySize} bytes`);
  }
  if (count * entrySize > entriesMaxBytes) return fail(`it has ${count} entries`);
  const entries = readBytes(device, entriesSector * sectorSizeBytes, count * entrySize);
  if (entries === undefined) return fail('its entries are not inside of the image');
  if (zlib().crc32(new Uint8Array(entries.buffer)) !== view.getUint32(88, true)) {
    return fail('the checksum of its entries is wrong');
  }
  return decodeEntries(device, entries, entrySize, sectorSizeBytes);
}

function decodeEntries(
  device: BlockDevice,
  entries: DataView,
  entrySize: number,
  sectorSizeBytes: number,
): Partition[] {
  const found: Partition[] = [];
  for (let at = 0; at < entries.byteLength && found.length < partitionsMax; at += entrySize) {
    const typeId = guidAt(entries, at);
    if (typeId === unusedType) continue;
    const first = number64(entries, at + 32);
    const last = number64(entries, at + 40);
    const offsetBytes = first * sectorSizeBytes;
    const sizeBytes = Math.max(0, (last - first + 1) * sectorSizeBytes);
    found.push({
      number: at / entrySize + 1,
      offsetBytes,
      sizeBytes,
      typeId,
      typeName: gptTypeName(typeId),
      label: labelAt(entries, at + 56),
      problem: placeProblem(offsetBytes, sizeBytes, device.sizeBytes),
    });
  }
  return found;
}

/** Not exact above 2^53: such a place is outside of every image. */
function number64(view: DataView, offset: number): number {
  return Number(view.getBigUint64(offset, true));
}

/** Text form: the first three fields are little-endian. */
function guidAt(view: DataView, at: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  const tail = [...new Uint8Array(view.buffer, at + 8, 8)].map((byte) => hex(byte, 2)).join('');
  const head = [
    hex(view.getUint32(at, true), 8),
    hex(view.getUint16(at + 4, true), 4),
    hex(view.getUint16(at + 6, true), 4),
  ];
  return [...head, tail.slice(0, 4), tail.slice(4)].join('-');
}

/** 36 characters of UTF-16, up to the first NUL. */
function labelAt(view: DataView, at: number): string {
  const text = new TextDecoder('utf-16le').decode(new Uint8Array(view.buffer, at, 72));
  return text.split('\0', 1)[0] ?? '';
}

function textOf(view: DataView, at: number, length: number): string {
  return Buffer.from(view.buffer, at, length).toString('latin1');
}

function readBytes(
  device: BlockDevice,
  offsetBytes: number,
  sizeBytes: number,
): DataView | undefined {
  if (!(offsetBytes >= 0 && offsetBytes + sizeBytes <= device.sizeBytes)) return undefined;
  const bytes = new Uint8Array(sizeBytes);
  device.read(offsetBytes, bytes);
  return new DataView(bytes.buffer);
}
