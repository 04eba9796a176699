/**
 * Of the mark on stubs (layout: src/tree/mark.ts) what those must know who only watch: whose it is. Several trees may
 * be on one file system, and each is told of all its files.
 */

/** Of every stub; only privileged programs see and change it. */
export const treeMarkName = 'trusted.ebb';

const magic = 'EBM';
const treeIdAt = 8;
const treeIdBytes = 16;

/**
 * True for a mark that another tree (or cache) wrote: its file is none of ours. False also for what is no mark at all:
 * whatever cannot be told apart from a mark of ours is looked at as one. `treeId`: UUID, lower case with dashes.
 */
export function isMarkOfAnother(bytes: Uint8Array, treeId: string): boolean {
  const mark = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (mark.length < treeIdAt + treeIdBytes || mark.toString('latin1', 0, 3) !== magic) return false;
  return mark.toString('hex', treeIdAt, treeIdAt + treeIdBytes) !== treeId.replaceAll('-', '');
}
