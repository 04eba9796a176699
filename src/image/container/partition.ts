/** What a partition table says of one partition, and the names of the types that people meet. */

export interface Partition {
  /** As Linux counts: 1 to 4 and from 5 on (logical) in an MBR; the entry's place in a GPT. */
  readonly number: number;
  readonly offsetBytes: number;
  /** As the table says; it may reach beyond the end of the image, see `problem`. */
  readonly sizeBytes: number;
  /** `83`, or a GUID. */
  readonly typeId: string;
  /** For people. */
  readonly typeName: string;
  readonly label: string;
  /** Why it cannot be used as it is. */
  readonly problem: string | undefined;
}

export interface PartitionTable {
  readonly kind: 'mbr' | 'gpt';
  readonly partitions: readonly Partition[];
  /** What was wrong with the table but does not hinder. */
  readonly warnings: readonly string[];
}

/** Partitions in one table; fdisk(8) makes 60 logical ones, Linux numbers up to 255. GPTs have 128 entries. */
export const partitionsMax = 256;

const mbrTypes: ReadonlyMap<number, string> = new Map([
  [0x01, 'FAT12'],
  [0x04, 'FAT16'],
  [0x06, 'FAT16'],
  [0x07, 'NTFS/exFAT'],
  [0x0b, 'FAT32'],
  [0x0c, 'FAT32'],
  [0x0e, 'FAT16'],
  [0x82, 'Linux swap'],
  [0x83, 'Linux'],
  [0x8e, 'Linux LVM'],
  [0xa5, 'FreeBSD'],
  [0xee, 'GPT protective'],
  [0xef, 'EFI system'],
  [0xfd, 'Linux RAID'],
]);

const gptTypes: ReadonlyMap<string, string> = new Map([
  ['c12a7328-f81f-11d2-ba4b-00a0c93ec93b', 'EFI system'],
  ['21686148-6449-6e6f-744e-656564454649', 'BIOS boot'],
  ['0fc63daf-8483-4772-8e79-3d69d8477de4', 'Linux filesystem'],
  ['4f68bce3-e8cd-4db1-96e7-fbcaf984b709', 'Linux root (x86-64)'],
  ['b921b045-1df0-41c3-af44-4c6f280d3fae', 'Linux root (ARM-64)'],
  ['bc13c2ff-59e6-4262-a352-b275fd6f7172', 'Linux extended boot'],
  ['933ac7e1-2eb4-4f13-b844-0e14e2aef915', 'Linux home'],
  ['0657fd6d-a4ab-43c4-84e5-0933c84b4f4f', 'Linux swap'],
  ['e6d6d379-f507-44c2-a23c-238f2a3df928', 'Linux LVM'],
  ['a19d880f-05fc-4d3b-a006-743f0f84911e', 'Linux RAID'],
  ['ebd0a0a2-b9e5-4433-87c0-68b6b72699c7', 'Microsoft basic data'],
  ['e3c9e316-0b5c-4db8-817d-f92df00215ae', 'Microsoft reserved'],
]);

export function mbrTypeName(type: number): string {
  return mbrTypes.get(type) ?? `type ${type.toString(16).padStart(2, '0')}`;
}

export function gptTypeName(guid: string): string {
  return gptTypes.get(guid) ?? 'unknown type';
}

/** What is wrong with the place of a partition in an image of that size. */
export function placeProblem(
  offsetBytes: number,
  sizeBytes: number,
  imageSizeBytes: number,
): string | undefined {
  if (sizeBytes <= 0) return 'it has no size';
  if (offsetBytes >= imageSizeBytes) return 'it lies beyond the end of the image';
  if (offsetBytes + sizeBytes > imageSizeBytes) return 'it reaches beyond the end of the image';
  return undefined;
}
