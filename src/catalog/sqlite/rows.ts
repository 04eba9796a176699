/** Rows of the tables nodes and contents as the contract's objects, and back. Hot: kept flat. */
import { assert } from '../../base/assert.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import type { Content, NewNode, Node, NodeKind } from '../catalog.ts';
import { decodeRareFacts, encodeRareFacts } from './rare-facts.ts';
import { damagedRow, hasIntegers, isVersion } from './sound-rows.ts';

type Version = string | Uint8Array | null;

export type NodeRow = [
  id: number,
  parent: number,
  name: Uint8Array,
  facts: number,
  uid: number,
  gid: number,
  size: number,
  mtimeSeconds: number,
  mtimeNanoseconds: number,
  version: Version,
  rare: Uint8Array | null,
  checkedMs: number,
  listedMs: number,
];

/** A row without parent and name, for queries that know them. */
export type FactsRow = [
  id: number,
  facts: number,
  uid: number,
  gid: number,
  size: number,
  mtimeSeconds: number,
  mtimeNanoseconds: number,
  version: Version,
  rare: Uint8Array | null,
  checkedMs: number,
  listedMs: number,
];

/** The same with the name at the end. */
export type ChildRow = [...FactsRow, name: Uint8Array];

export const factsColumns =
  'id, facts, uid, gid, size, mtime_s, mtime_ns, version, rare, checked_ms, listed_ms';

export type ContentRow = [
  id: number,
  key: Uint8Array,
  version: Version,
  size: number,
  chunkBytes: number,
  bitmap: Uint8Array,
  resident: number,
  complete: number,
  handle: Uint8Array,
  accessedMs: number,
  pinned: number,
  lost: number,
];

export const contentColumns =
  'id, key, version, size, chunk_bytes, bitmap, resident, complete, handle, accessed_ms, pinned, lost';

const kindMask = 3;
const exactBit = 4;
const modeShift = 3;

/** mode -1 (unknown) .. 0o7777. */
export function packFacts(node: Pick<Node, 'kind' | 'exact' | 'mode'>): number {
  assert(node.mode >= -1 && node.mode <= 0o7777, `mode ${node.mode} is not a set of permissions`);
  return node.kind | (node.exact ? exactBit : 0) | ((node.mode + 1) << modeShift);
}

export function kindOfFacts(facts: number): NodeKind {
  return (facts & kindMask) as NodeKind;
}

/** Throws EUCLEAN. */
export function nodeOfFacts(row: FactsRow | ChildRow, parentId: number, name: Uint8Array): Node {
  if (!isNode(row) || !(name instanceof Uint8Array)) throw damagedRow('a name is no name');
  const rare = row[8];
  const rareFacts = rare === null ? undefined : decodeRareFacts(rare);
  const facts = row[1];
  return {
    id: row[0],
    parentId,
    name,
    kind: (facts & kindMask) as NodeKind,
    mode: (facts >> modeShift) - 1,
    uid: row[2],
    gid: row[3],
    sizeBytes: row[4],
    mtimeSeconds: row[5],
    mtimeNanoseconds: row[6],
    exact: (facts & exactBit) !== 0,
    version: decodeVersion(row[7]),
    target: rareFacts === undefined ? null : rareFacts.target,
    xattrs: rareFacts === undefined ? null : rareFacts.xattrs,
    checkedAtMs: row[9],
    listedAtMs: row[10],
  };
}

/** The parameters for `INSERT INTO nodes VALUES (?, ...)`. */
export function nodeRow(node: NewNode, id: number, parentId: number, listedAtMs: number): NodeRow {
  return [
    id,
    parentId,
    node.name,
    packFacts(node),
    node.uid,
    node.gid,
    node.sizeBytes,
    node.mtimeSeconds,
    node.mtimeNanoseconds,
    encodeVersion(node.version),
    node.target === null && node.xattrs === null ? null : encodeRareFacts(node),
    node.checkedAtMs,
    listedAtMs,
  ];
}

const nodeIntegers = [0, 1, 2, 3, 4, 5, 6, 9, 10];

function isNode(row: FactsRow | ChildRow): boolean {
  const isRight = hasIntegers(row, nodeIntegers) && (row[1] & kindMask) !== 0;
  return isRight && isVersion(row[7]) && (row[8] === null || row[8] instanceof Uint8Array);
}

const contentIntegers = [0, 3, 4, 6, 7, 9, 10, 11];

function isContent(row: ContentRow): boolean {
  const [, key, version, size, chunkBytes, bitmap, , , handle] = row;
  if (!hasIntegers(row, contentIntegers) || size < 0 || chunkBytes < 1) return false;
  return isVersion(version) && [key, bitmap, handle].every((bytes) => bytes instanceof Uint8Array);
}

/** Throws EUCLEAN. */
export function contentOf(row: ContentRow): Content {
  if (!isContent(row)) throw damagedRow('a content is none');
  return {
    id: row[0],
    key: decodeName(row[1]),
    version: decodeVersion(row[2]) ?? '',
    sizeBytes: row[3],
    chunkBytes: row[4],
    bitmap: row[5],
    residentBytes: row[6],
    complete: row[7] !== 0,
    handle: row[8],
    accessedAtMs: row[9],
    pinned: row[10] !== 0,
    lost: row[11] !== 0,
  };
}

export function contentRow(content: Content): ContentRow {
  return [
    content.id,
    encodeName(content.key),
    encodeVersion(content.version),
    content.sizeBytes,
    content.chunkBytes,
    content.bitmap,
    content.residentBytes,
    content.complete ? 1 : 0,
    content.handle,
    content.accessedAtMs,
    content.pinned ? 1 : 0,
    content.lost ? 1 : 0,
  ];
}

/**
 * Versions are text, but a remote may put anything into one: what UTF-8 cannot carry, and NUL, which would end
 * the text, is kept as a BLOB of UTF-16.
 */
export function encodeVersion(version: string | null): Version {
  if (version === null) return null;
  if (version.isWellFormed() && !version.includes('\0')) return version;
  return Buffer.from(version, 'utf16le');
}

export function decodeVersion(version: Version): string | null {
  if (version === null || typeof version === 'string') return version;
  return Buffer.from(version.buffer, version.byteOffset, version.byteLength).toString('utf16le');
}
