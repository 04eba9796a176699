/**
 * The EROFS map: a file system of metadata alone, whose files' data lie in the untouched image (fs/erofs/erofs_fs.h
 * of Linux: chunk-based inodes, device table). Pure: a tree in, bytes out.
 *
 *     block 0      superblock at 1024, device table behind it
 *     metadata     inodes, each followed by its attributes and its chunk table, last directory block or symlink
 *     blocks       what of directories and inline files does not fit behind the inode
 */
import { ebbError } from '../../base/errors.ts';
import { chunkIndexBytes, chunksOf, mergeExtents, writeChunkTable } from './chunks.ts';
import type { ChunkedFile } from './chunks.ts';
import { directoryBlocks, writeDirectoryBlock } from './directory.ts';
import type { DirectoryBlock } from './directory.ts';
import {
  DataLayout,
  encodeDevice,
  fileTypes,
  inodeBytes,
  nidBytes,
  writeInode,
  xattrsBytes,
} from './inode.ts';
import { checkTree } from './plain-node.ts';
import type { ImageArea, PlainExtent, PlainNode } from './plain-node.ts';

const magic = 0xe0f5_e1e2;
const superblockAt = 1024;
const superblockBytes = 128;
const deviceSlotBytes = 128;
const incompatChunkedFile = 0x4;
const incompatDeviceTable = 0x8;
/** EROFS_CHUNK_FORMAT_INDEXES: a table of struct erofs_inode_chunk_index. */
const chunkFormatIndexes = 0x20;
/** The writer holds all of it in memory. */
export const mapMaxBytes = 512 * 1024 * 1024;
const twoTo32 = 2 ** 32;

/** Where one node goes and what follows its inode. */
interface Placed {
  readonly node: PlainNode;
  readonly layout: DataLayout;
  readonly sizeBytes: number;
  /** Behind inode and attributes. */
  readonly tailAt: number;
  readonly chunks?: { readonly extents: readonly PlainExtent[]; readonly file: ChunkedFile };
  readonly directory?: readonly DirectoryBlock[];
  /** Directory blocks or content. */
  readonly tail?: Uint8Array;
  /** Full blocks in the third part; counted from its start. */
  readonly firstBlock: number;
  readonly blockCount: number;
  readonly at: number;
}

function aligned(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

class MapWriter {
  readonly #nodes: readonly PlainNode[];
  readonly #links: Uint32Array;
  readonly #area: ImageArea;
  readonly #placed: Placed[] = [];
  readonly #parents: Uint32Array;
  readonly #maxBytes: number;
  /** In the metadata part. */
  #endBytes = 0;
  #blocks = 0;

  constructor(nodes: readonly PlainNode[], area: ImageArea, maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#links = checkTree(nodes, area);
    this.#nodes = nodes;
    this.#area = area;
    this.#parents = new Uint32Array(nodes.length);
    for (const [index, { content }] of nodes.entries()) {
      if (content.kind !== 'directory') continue;
      for (const { node } of content.entries) this.#parents[node] = index;
    }
  }

  write(): Uint8Array {
    for (const [index, node] of this.#nodes.entries()) this.#place(index, node);
    const { blockBytes } = this.#area;
    const metadataAt = aligned(superblockAt + superblockBytes + deviceSlotBytes, blockBytes);
    const blocksAt = metadataAt + aligned(this.#endBytes, blockBytes);
    const totalBytes = blocksAt + this.#blocks * blockBytes;
    const bytes = new Uint8Array(totalBytes);
    this.#writeSuperblock(new DataView(bytes.buffer), metadataAt, totalBytes);
    for (const [index, placed] of this.#placed.entries()) {
      this.#writeNode(bytes, metadataAt, blocksAt, index, placed);
    }
    return bytes;
  }

  #place(index: number, node: PlainNode): void {
    const { content } = node;
    const attributeBytes = xattrsBytes(node.xattrs);
    switch (content.kind) {
      case 'file': {
        const extents = mergeExtents(content.extents);
        const file = chunksOf(extents, content.sizeBytes, this.#area.blockBytes);
        // The table begins on a multiple of its entries (kernel: erofs_map_blocks).
        const at = this.#take(inodeBytes + attributeBytes, file.chunkCount * chunkIndexBytes);
        const tailAt = aligned(at + inodeBytes + attributeBytes, chunkIndexBytes);
        const { sizeBytes } = content;
        const layout = DataLayout.chunkBased;
        const chunks = { extents, file };
        this.#placed.push({
          node,
          layout,
          sizeBytes,
          tailAt,
          chunks,
          firstBlock: 0,
          blockCount: 0,
          at,
        });
        return;
      }
      case 'directory':
        return this.#placeDirectory(index, node, content.entries, attributeBytes);
      case 'inline':
        return this.#placeBytes(node, content.bytes, attributeBytes);
      case 'symlink':
        return this.#placeBytes(node, content.target, attributeBytes);
      default:
        return this.#placeBytes(node, new Uint8Array(0), attributeBytes);
    }
  }

  #placeDirectory(
    index: number,
    node: PlainNode,
    entries: readonly { readonly name: Uint8Array; readonly node: number }[],
    attributeBytes: number,
  ): void {
    const rows = entries.map((entry) => ({
      name: entry.name,
      node: entry.node,
      fileType: fileTypes[this.#nodes[entry.node]?.content.kind ?? 'file'],
    }));
    const parent = this.#parents[index] ?? 0;
    rows.push({ name: Buffer.from('.'), node: index, fileType: fileTypes.directory });
    rows.push({ name: Buffer.from('..'), node: parent, fileType: fileTypes.directory });
    const { blockBytes } = this.#area;
    const directory = directoryBlocks(rows, blockBytes);
    const lastBytes = directory.at(-1)?.usedBytes ?? 0;
    const sizeBytes = (directory.length - 1) * blockBytes + lastBytes;
    this.#placed.push({
      node,
      sizeBytes,
      directory,
      ...this.#placeTail(attributeBytes, sizeBytes, lastBytes),
    });
  }

  #placeBytes(node: PlainNode, tail: Uint8Array, attributeBytes: number): void {
    const sizeBytes = tail.length;
    const lastBytes = sizeBytes % this.#area.blockBytes;
    this.#placed.push({
      node,
      sizeBytes,
      tail,
      ...this.#placeTail(attributeBytes, sizeBytes, lastBytes),
    });
  }

  /** Full blocks go to the third part; the rest stands behind the inode, within one block, or in a block of its own. */
  #placeTail(
    attributeBytes: number,
    sizeBytes: number,
    lastBytes: number,
  ): Pick<Placed, 'layout' | 'at' | 'tailAt' | 'firstBlock' | 'blockCount'> {
    const { blockBytes } = this.#area;
    const isInline = lastBytes > 0 && lastBytes <= blockBytes - nidBytes;
    const blockCount = isInline
      ? Math.floor(sizeBytes / blockBytes)
      : Math.ceil(sizeBytes / blockBytes);
    const firstBlock = this.#blocks;
    this.#blocks += blockCount;
    this.#checkSize();
    const headBytes = inodeBytes + attributeBytes;
    if (!isInline) {
      const at = this.#take(headBytes, 0);
      return { layout: DataLayout.flatPlain, at, tailAt: at + headBytes, firstBlock, blockCount };
    }
    const tailOffset = (this.#endBytes + headBytes) % blockBytes;
    if (tailOffset + lastBytes > blockBytes)
      this.#take(aligned(blockBytes - tailOffset, nidBytes), 0);
    const at = this.#take(headBytes, lastBytes);
    return { layout: DataLayout.flatInline, at, tailAt: at + headBytes, firstBlock, blockCount };
  }

  /** Room in the metadata part for an inode with attributes, and what follows it on a boundary of 8. */
  #take(headBytes: number, tailBytes: number): number {
    const at = this.#endBytes;
    const endBytes = tailBytes === 0 ? headBytes : aligned(headBytes, chunkIndexBytes) + tailBytes;
    this.#endBytes = aligned(at + endBytes, nidBytes);
    this.#checkSize();
    return at;
  }

  #checkSize(): void {
    const max = this.#maxBytes;
    if (this.#endBytes + this.#blocks * this.#area.blockBytes <= max) return;
    const what = `The map of the image would be larger than ${max} bytes`;
    throw ebbError('EFBIG', `${what}: mount without -o native.`);
  }

  #writeNode(
    bytes: Uint8Array,
    metadataAt: number,
    blocksAt: number,
    index: number,
    placed: Placed,
  ): void {
    const { node, layout, sizeBytes } = placed;
    const { blockBytes } = this.#area;
    const { content } = node;
    let union = placed.blockCount === 0 ? 0 : blocksAt / blockBytes + placed.firstBlock;
    if (content.kind === 'character' || content.kind === 'block') {
      union = encodeDevice(content.major, content.minor);
    }
    if (placed.chunks !== undefined) {
      union = placed.chunks.file.chunkBits | chunkFormatIndexes;
      const view = new DataView(bytes.buffer);
      const { extents, file } = placed.chunks;
      writeChunkTable(view, metadataAt + placed.tailAt, extents, file, blockBytes);
    }
    const links = this.#links[index] ?? 1;
    writeInode(bytes, metadataAt + placed.at, node, {
      layout,
      sizeBytes,
      links,
      number: index + 1,
      union,
    });
    const blockAt = (block: number): number =>
      block < placed.blockCount
        ? blocksAt + (placed.firstBlock + block) * blockBytes
        : metadataAt + placed.tailAt;
    const nidOf = (child: number): number => (this.#placed[child]?.at ?? 0) / nidBytes;
    for (const [block, each] of (placed.directory ?? []).entries()) {
      writeDirectoryBlock(bytes, blockAt(block), each, nidOf);
    }
    const tail = placed.tail ?? new Uint8Array(0);
    for (let block = 0; block * blockBytes < tail.length; block += 1) {
      bytes.set(tail.subarray(block * blockBytes, (block + 1) * blockBytes), blockAt(block));
    }
  }

  /** struct erofs_super_block, and the one struct erofs_deviceslot of the image. */
  #writeSuperblock(view: DataView, metadataAt: number, totalBytes: number): void {
    const { blockBytes, endBytes } = this.#area;
    const at = superblockAt;
    view.setUint32(at, magic, true);
    view.setUint8(at + 12, Math.log2(blockBytes));
    view.setUint16(at + 14, 0, true); // the root is the first inode
    view.setBigUint64(at + 16, BigInt(this.#nodes.length), true);
    view.setUint32(at + 36, totalBytes / blockBytes, true);
    view.setUint32(at + 40, metadataAt / blockBytes, true);
    view.setUint32(at + 80, incompatChunkedFile | incompatDeviceTable, true);
    view.setUint16(at + 86, 1, true); // extra_devices
    view.setUint16(at + 88, (superblockAt + superblockBytes) / deviceSlotBytes, true);
    const imageBlocks = Math.min(Math.ceil(endBytes / blockBytes), twoTo32 - 1);
    view.setUint32(superblockAt + superblockBytes + 64, imageBlocks, true);
  }
}

/**
 * The bytes of a map, whole blocks. `nodes[0]` is the root directory; a directory comes before what it contains.
 * Throws EUCLEAN for what `checkTree` refuses, EFBIG above `maxBytes` (about: without the superblock's block).
 */
export function writeMap(
  nodes: readonly PlainNode[],
  area: ImageArea,
  maxBytes = mapMaxBytes,
): Uint8Array {
  return new MapWriter(nodes, area, maxBytes).write();
}
