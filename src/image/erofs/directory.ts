/**
 * Directories of EROFS: blocks that each begin with their entries, sorted by name, and end with the
 * names (struct erofs_dirent { le64 nid, le16 nameoff, u8 file_type, u8 reserved }).
 */
export interface DirectoryRow {
  readonly name: Uint8Array;
  /** DT_* of the entry: include/linux/fs_types.h FT_*. */
  readonly fileType: number;
  /** Index of the node; its number is known when the blocks are written. */
  readonly node: number;
}

export interface DirectoryBlock {
  readonly rows: readonly DirectoryRow[];
  readonly usedBytes: number;
}

const direntBytes = 12;

/** Splits rows, "." and ".." among them, into blocks in the order of the names' bytes. */
export function directoryBlocks(
  rows: readonly DirectoryRow[],
  blockBytes: number,
): DirectoryBlock[] {
  const sorted = rows.toSorted((a, b) => Buffer.compare(a.name, b.name));
  const blocks: DirectoryBlock[] = [];
  let current: DirectoryRow[] = [];
  let usedBytes = 0;
  for (const row of sorted) {
    const bytes = direntBytes + row.name.length;
    if (usedBytes + bytes > blockBytes) {
      blocks.push({ rows: current, usedBytes });
      current = [];
      usedBytes = 0;
    }
    current.push(row);
    usedBytes += bytes;
  }
  blocks.push({ rows: current, usedBytes });
  return blocks;
}

export function writeDirectoryBlock(
  into: Uint8Array,
  at: number,
  { rows }: DirectoryBlock,
  nidOf: (node: number) => number,
): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  let nameAt = rows.length * direntBytes;
  for (const [index, row] of rows.entries()) {
    const entry = at + index * direntBytes;
    view.setUint32(entry, nidOf(row.node), true);
    view.setUint16(entry + 8, nameAt, true);
    view.setUint8(entry + 10, row.fileType);
    into.set(row.name, at + nameAt);
    nameAt += row.name.length;
  }
}
