/** Nodes and contents for the tests of catalogs. */
import { NodeKind } from '../../src/catalog/catalog.ts';
import type { Catalog, Content, NewNode, Node } from '../../src/catalog/catalog.ts';

export function nameBytes(name: string): Uint8Array {
  return Uint8Array.from(Buffer.from(name));
}

/** A file of 100 bytes with a version, unless told otherwise. */
export function newNode(parentId: number, name: string, change: Partial<NewNode> = {}): NewNode {
  return {
    parentId,
    name: nameBytes(name),
    kind: NodeKind.file,
    mode: 0o640,
    uid: 1000,
    gid: -1,
    sizeBytes: 100,
    mtimeSeconds: 1_700_000_000,
    mtimeNanoseconds: 999_999_999,
    exact: true,
    version: 'v1',
    target: null,
    xattrs: null,
    checkedAtMs: 5,
    ...change,
  };
}

export function newDirectory(parentId: number, name: string): NewNode {
  return newNode(parentId, name, { kind: NodeKind.directory, sizeBytes: -1, version: null });
}

export function newContent(id: number, key: string, change: Partial<Content> = {}): Content {
  return {
    id,
    key,
    version: 'v1',
    sizeBytes: 100,
    chunkBytes: 10,
    bitmap: Uint8Array.of(1, 2, 3),
    residentBytes: 30,
    complete: false,
    handle: Uint8Array.of(9, 9),
    accessedAtMs: 1_000,
    pinned: false,
    lost: false,
    ...change,
  };
}

/** Inserts into one directory; returns the nodes. */
export function insert(catalog: Catalog, directoryId: number, ...inserted: NewNode[]): Node[] {
  const change = { directoryId, listedAtMs: 7, inserted, updated: [], removedIds: [] };
  return catalog.applyListing(change);
}

export function remove(catalog: Catalog, directoryId: number, ...removedIds: number[]): void {
  catalog.applyListing({ directoryId, listedAtMs: 8, inserted: [], updated: [], removedIds });
}
