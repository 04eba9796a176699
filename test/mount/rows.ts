/** Catalog rows for the tests of the front end. */
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import type { Catalog, NewNode, Node } from '../../src/catalog/catalog.ts';

export function fileRow(name: string, change: Partial<NewNode> = {}): NewNode {
  return {
    parentId: ROOT_NODE_ID,
    name: encodeName(name),
    kind: NodeKind.file,
    mode: -1,
    uid: -1,
    gid: -1,
    sizeBytes: 1_000,
    mtimeSeconds: 1_700_000_000,
    mtimeNanoseconds: 0,
    exact: true,
    version: 'v1',
    target: null,
    xattrs: null,
    checkedAtMs: 0,
    ...change,
  };
}

/** A listing of the root with these rows more. */
export function listRoot(catalog: Catalog, listedAtMs: number, rows: readonly NewNode[]): Node[] {
  return catalog.applyListing({
    directoryId: ROOT_NODE_ID,
    listedAtMs,
    inserted: rows,
    updated: [],
    removedIds: [],
  });
}
