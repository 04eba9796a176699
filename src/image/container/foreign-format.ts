/** Files that are no raw image although nothing better fits: named, with what to do about them. */
import type { BlockDevice } from '../../ext4/block-device.ts';

interface Format {
  readonly name: string;
  readonly offsetBytes: number;
  /** In Latin-1. */
  readonly magic: string;
  readonly advice: string;
}

const convert = 'convert it with: qemu-img convert -O qcow2 IMAGE NEW';
const unpack = 'unpack it first';

const formats: readonly Format[] = [
  { name: 'a VMDK image', offsetBytes: 0, magic: 'KDMV', advice: convert },
  { name: 'a VMDK descriptor', offsetBytes: 0, magic: '# Disk Descriptor', advice: convert },
  { name: 'a VDI image', offsetBytes: 64, magic: '\x7f\x10\xda\xbe', advice: convert },
  { name: 'a VHDX image', offsetBytes: 0, magic: 'vhdxfile', advice: convert },
  { name: 'a dynamic VHD image', offsetBytes: 0, magic: 'conectix', advice: convert },
  { name: 'a QED image', offsetBytes: 0, magic: 'QED\0', advice: convert },
  {
    name: 'an Android sparse image',
    offsetBytes: 0,
    magic: '\x3a\xff\x26\xed',
    advice: 'convert it with: simg2img',
  },
  { name: 'compressed with gzip', offsetBytes: 0, magic: '\x1f\x8b\x08', advice: unpack },
  { name: 'compressed with xz', offsetBytes: 0, magic: '\xfd7zXZ\0', advice: unpack },
  { name: 'compressed with zstd', offsetBytes: 0, magic: '\x28\xb5\x2f\xfd', advice: unpack },
  { name: 'compressed with bzip2', offsetBytes: 0, magic: 'BZh', advice: unpack },
  { name: 'a zip archive', offsetBytes: 0, magic: 'PK\x03\x04', advice: unpack },
  {
    name: 'encrypted (LUKS)',
    offsetBytes: 0,
    magic: 'LUKS\xba\xbe',
    advice: 'open it with: cryptsetup open',
  },
  {
    name: 'an xfs file system',
    offsetBytes: 0,
    magic: 'XFSB',
    advice: 'Ebb reads ext2, ext3 and ext4',
  },
  {
    name: 'a squashfs file system',
    offsetBytes: 0,
    magic: 'hsqs',
    advice: 'Ebb reads ext2, ext3 and ext4',
  },
];

/** A sentence when the image begins as one of them does. */
export function foreignFormat(device: BlockDevice): string | undefined {
  const head = new Uint8Array(Math.min(device.sizeBytes, 128));
  device.read(0, head);
  const text = Buffer.from(head).toString('latin1');
  const found = formats.find(({ offsetBytes, magic }) => text.startsWith(magic, offsetBytes));
  return found === undefined ? undefined : `The image is ${found.name}: ${found.advice}.`;
}
