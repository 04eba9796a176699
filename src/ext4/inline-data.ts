/**
 * Content that lives in the inode itself: 60 bytes in the place of the block pointers, the rest as
 * the value of an attribute called system.data.
 */
import { corrupt } from './errors.ts';
import type { Image } from './image.ts';
import { inlineAttributes } from './xattr-entries.ts';
import { pointersOf, pointersSizeBytes } from './loaded-inode.ts';
import type { LoadedInode } from './loaded-inode.ts';
import { Region } from './region.ts';

const systemIndex = 7;
const dataName = Buffer.from('data');
const parentSize = 4;

/** The second part of the content; empty when the first was enough. */
function secondPart(image: Image, inode: LoadedInode): Region {
  const raw = image.rawInode(inode.number);
  for (const entry of inlineAttributes(image, inode, raw)) {
    if (entry.nameIndex !== systemIndex || !dataName.equals(entry.name)) continue;
    if (entry.valueInode !== 0) throw corrupt(`inode ${inode.number} has its content elsewhere`);
    return new Region(entry.storedValue.slice(), `the content of inode ${inode.number}`);
  }
  throw corrupt(`inode ${inode.number} lacks the content that it should hold`);
}

/** Reads into `into`, which must not end behind the file. What truncate(2) put behind the stored content is zeros. */
export function readInline(
  image: Image,
  inode: LoadedInode,
  offsetBytes: number,
  into: Uint8Array,
): void {
  const rest = secondPart(image, inode);
  into.fill(0);
  let start = 0;
  for (const { bytes } of [pointersOf(inode), rest]) {
    const from = Math.max(offsetBytes - start, 0);
    const end = Math.max(offsetBytes + into.length - start, from);
    const part = bytes.subarray(from, end);
    if (part.length > 0) into.set(part, Math.max(start - offsetBytes, 0));
    start += bytes.length;
  }
}

/** The two rows of entries of a directory; positions go on from one to the other. */
export function* inlineDirectory(
  image: Image,
  inode: LoadedInode,
): Generator<{ region: Region; start: number; end: number; base: number }> {
  yield { region: pointersOf(inode), start: parentSize, end: pointersSizeBytes, base: 0 };
  const region = secondPart(image, inode);
  yield { region, start: 0, end: region.sizeBytes, base: pointersSizeBytes };
}
