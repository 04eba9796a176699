/**
 * The catalog in memory: the twin of the SQLite one, for tests and simulations. Same answers, same errors, no
 * durability. Written to be obviously right, not fast.
 */
import { assert } from '../../base/assert.ts';
import { ebbError } from '../../base/errors.ts';
import { NodeKind, ROOT_NODE_ID } from '../catalog.ts';
import type {
  Catalog,
  CatalogTotals,
  Content,
  DirectoryChange,
  NewNode,
  Node,
} from '../catalog.ts';
import { keyOf, lastNameOf } from '../key.ts';

const rootNode: Node = {
  id: ROOT_NODE_ID,
  parentId: 0,
  name: new Uint8Array(0),
  kind: NodeKind.directory,
  mode: -1,
  uid: -1,
  gid: -1,
  sizeBytes: -1,
  mtimeSeconds: 0,
  mtimeNanoseconds: -1,
  exact: false,
  version: null,
  target: null,
  xattrs: null,
  checkedAtMs: 0,
  listedAtMs: 0,
};

export class MemoryCatalog implements Catalog {
  #nodes = new Map<number, Node>([[ROOT_NODE_ID, rootNode]]);
  /** Ids by parent and name (as Latin-1). */
  #names = new Map<number, Map<string, number>>();
  #contents = new Map<number, Content>();
  #settings = new Map<string, string>();
  #nextId = ROOT_NODE_ID + 1;

  node(id: number): Node | undefined {
    return this.#nodes.get(id);
  }

  child(parentId: number, name: Uint8Array): Node | undefined {
    const id = this.#names.get(parentId)?.get(nameKey(name));
    return id === undefined ? undefined : this.#nodes.get(id);
  }

  children(parentId: number, afterId: number, limit: number): Node[] {
    return this.#childrenOf(parentId)
      .filter((node) => node.id > afterId)
      .slice(0, limit);
  }

  childChecks(parentId: number, afterId: number, limit: number): [number, number][] {
    return this.children(parentId, afterId, limit).map(({ id, checkedAtMs }) => [id, checkedAtMs]);
  }

  subdirectoryCount(parentId: number): number {
    return this.#childrenOf(parentId).filter((node) => node.kind === NodeKind.directory).length;
  }

  path(id: number): Uint8Array[] | undefined {
    const names: Uint8Array[] = [];
    let node = this.#nodes.get(id);
    while (node !== undefined && node.id !== ROOT_NODE_ID) {
      names.unshift(node.name);
      node = this.#nodes.get(node.parentId);
    }
    return node === undefined ? undefined : names;
  }

  content(id: number): Content | undefined {
    return this.#contents.get(id);
  }

  totals(directoryId: number): CatalogTotals {
    const below = this.#below(directoryId);
    const files = below.filter((node) => node.kind === NodeKind.file);
    const contents =
      directoryId === ROOT_NODE_ID
        ? [...this.#contents.values()]
        : below.flatMap((node) => this.#contents.get(node.id) ?? []);
    return {
      files: files.length,
      directories: below.filter((node) => node.kind === NodeKind.directory).length,
      remoteBytes: sum(files.map((node) => Math.max(node.sizeBytes, 0))),
      residentBytes: sum(contents.map((content) => content.residentBytes)),
      contents: contents.length,
    };
  }

  lacksFacts(directoryId: number): boolean {
    const isUnlisted = (node: Node | undefined): boolean =>
      node?.kind === NodeKind.directory && node.listedAtMs === 0;
    if (isUnlisted(this.#nodes.get(directoryId))) return true;
    return this.#below(directoryId).some(
      (node) => isUnlisted(node) || (node.kind === NodeKind.file && node.sizeBytes < 0),
    );
  }

  together<Result>(work: () => Result): Result {
    return work();
  }

  applyListing(change: DirectoryChange): Node[] {
    const { directoryId, listedAtMs, inserted, updated, removedIds } = change;
    return this.#allOrNothing(() => {
      const directory = this.#nodes.get(directoryId);
      if (directory === undefined) throw goneError(directoryId);
      if (directory.kind !== NodeKind.directory) {
        throw ebbError('ENOTDIR', `Node ${directoryId} is not a directory.`);
      }
      for (const id of removedIds) {
        if (this.#nodes.get(id)?.parentId === directoryId) this.#removeSubtree(id, false);
      }
      for (const node of updated) {
        const before = this.#nodes.get(node.id);
        if (before?.parentId !== directoryId) continue;
        this.#update({ ...node, listedAtMs: before.listedAtMs });
      }
      const nodes = inserted.map((node) => {
        assert(node.parentId === directoryId, 'a listing inserts into its own directory');
        return this.#insertOrAdopt(node);
      });
      this.#nodes.set(directoryId, { ...directory, listedAtMs });
      return nodes;
    });
  }

  updateNode(node: Node): void {
    this.#update(node);
  }

  replaceNode(oldId: number, replacement: NewNode): Node {
    return this.#allOrNothing(() => {
      const old = this.#nodes.get(oldId);
      if (old === undefined || old.parentId === 0) throw goneError(oldId);
      assert(old.parentId === replacement.parentId, 'a replacement keeps the name where it is');
      this.#removeSubtree(oldId, false);
      return this.#insertOrAdopt(replacement);
    });
  }

  removeNode(id: number): void {
    assert(id !== ROOT_NODE_ID, 'the root stays');
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    if (node.parentId === 0) this.setLost(id, true);
    else this.#removeSubtree(id, true);
  }

  putContent(content: Content): void {
    const node = this.#nodes.get(content.id);
    if (node === undefined) throw goneError(content.id);
    assert(node.kind === NodeKind.file, 'only files have content');
    const before = this.#contents.get(content.id);
    const same = before === undefined || before.version === content.version;
    assert(same, 'a content never changes its version');
    this.#contents.set(content.id, content);
  }

  commitResidency(
    rows: readonly Pick<Content, 'id' | 'bitmap' | 'residentBytes' | 'complete'>[],
  ): void {
    for (const { id, bitmap, residentBytes, complete } of rows) {
      this.#change(id, { bitmap, residentBytes, complete });
    }
  }

  touch(accesses: ReadonlyMap<number, number>): void {
    for (const [id, accessedAtMs] of accesses) this.#change(id, { accessedAtMs });
  }

  setPinned(id: number, pinned: boolean): void {
    this.#change(id, { pinned });
  }

  setLost(id: number, lost: boolean): void {
    this.#change(id, { lost });
  }

  deleteContent(id: number): void {
    if (!this.#contents.delete(id)) return;
    if (this.#nodes.get(id)?.parentId === 0) this.#nodes.delete(id);
  }

  orphanByKey(key: string, version: string): Content | undefined {
    return this.#contentsInOrder()
      .filter((content) => this.#isOrphan(content.id))
      .findLast((content) => content.key === key && content.version === version);
  }

  restoreOrphans(contents: readonly Content[]): void {
    this.#allOrNothing(() => {
      for (const content of contents) {
        assert(content.id > ROOT_NODE_ID, 'the root has no content');
        if (this.#nodes.has(content.id)) {
          throw ebbError('EEXIST', `The catalog has node ${content.id} already.`);
        }
        this.#nodes.set(content.id, orphanNode(content));
        this.#contents.set(content.id, content);
        this.continueIdsAfter(content.id);
      }
    });
  }

  continueIdsAfter(id: number): void {
    this.#nextId = Math.max(this.#nextId, id + 1);
  }

  leastRecentlyUsed(
    after: { accessedAtMs: number; id: number } | undefined,
    limit: number,
  ): Content[] {
    return this.#contentsInOrder()
      .filter((content) => content.residentBytes > 0)
      .sort((a, b) => a.accessedAtMs - b.accessedAtMs || a.id - b.id)
      .filter(
        ({ accessedAtMs, id }) =>
          after === undefined ||
          accessedAtMs > after.accessedAtMs ||
          (accessedAtMs === after.accessedAtMs && id > after.id),
      )
      .slice(0, limit);
  }

  orphans(afterId: number, limit: number): Content[] {
    return this.#contentsInOrder()
      .filter(({ id }) => id > afterId && this.#isOrphan(id))
      .slice(0, limit);
  }

  contents(afterId: number, limit: number): Content[] {
    return this.#contentsInOrder()
      .filter(({ id }) => id > afterId)
      .slice(0, limit);
  }

  setting(name: string): string | undefined {
    return this.#settings.get(name);
  }

  setSetting(name: string, value: string): void {
    this.#settings.set(name, value);
  }

  /** Nothing to free. */
  [Symbol.dispose](): void {}

  #contentsInOrder(): Content[] {
    return [...this.#contents.values()].sort((a, b) => a.id - b.id);
  }

  #isOrphan(id: number): boolean {
    return this.#nodes.get(id)?.parentId === 0;
  }

  #childrenOf(parentId: number): Node[] {
    return [...(this.#names.get(parentId)?.values() ?? [])]
      .sort((a, b) => a - b)
      .flatMap((id) => this.#nodes.get(id) ?? []);
  }

  #below(id: number): Node[] {
    return this.#childrenOf(id).flatMap((node) => [node, ...this.#below(node.id)]);
  }

  #change(id: number, change: Partial<Content>): void {
    const content = this.#contents.get(id);
    if (content !== undefined) this.#contents.set(id, { ...content, ...change });
  }

  #update(node: Node): void {
    const before = this.#nodes.get(node.id);
    if (before === undefined) throw goneError(node.id);
    assert(before.kind === node.kind, 'a node never changes its kind');
    const content = this.#contents.get(node.id);
    const same = content === undefined || node.version === null || node.version === content.version;
    assert(same, 'a node with content never changes its version: replace the node');
    this.#nodes.set(node.id, { ...node, parentId: before.parentId, name: before.name });
  }

  #insertOrAdopt(node: NewNode): Node {
    const names = this.#names.get(node.parentId) ?? new Map<string, number>();
    if (names.has(nameKey(node.name))) {
      throw ebbError('EEXIST', 'The catalog has this name already.');
    }
    const orphanId = node.id ?? this.#findOrphan(node);
    if (orphanId === undefined) this.#nextId += 1;
    else this.#takeOrphan(orphanId, node);
    const id = orphanId ?? this.#nextId - 1;
    const inserted: Node = { ...node, id, listedAtMs: 0 };
    this.#nodes.set(id, inserted);
    this.#names.set(node.parentId, names.set(nameKey(node.name), id));
    return inserted;
  }

  #findOrphan(node: NewNode): number | undefined {
    const directory = this.path(node.parentId);
    if (directory === undefined || node.kind !== NodeKind.file || node.version === null) {
      return undefined;
    }
    const orphan = this.orphanByKey(keyOf([...directory, node.name]), node.version);
    if (orphan === undefined) return undefined;
    const sizeDiffers = node.exact && node.sizeBytes >= 0 && node.sizeBytes !== orphan.sizeBytes;
    return sizeDiffers ? undefined : orphan.id;
  }

  #takeOrphan(id: number, node: NewNode): void {
    const content = this.#contents.get(id);
    assert(content !== undefined && this.#isOrphan(id), `node ${id} is no orphan`);
    assert(node.kind === NodeKind.file, 'only files adopt an orphan');
    const same = node.version === null || node.version === content.version;
    assert(same, 'a node with content never changes its version: replace the node');
    this.#change(id, { lost: false });
  }

  #removeSubtree(id: number, lost: boolean): void {
    const node = this.#nodes.get(id);
    assert(node !== undefined && node.parentId > 0, `node ${id} has a name`);
    for (const one of [node, ...this.#below(id)]) {
      this.#names.get(one.parentId)?.delete(nameKey(one.name));
      if (this.#contents.has(one.id)) {
        this.#nodes.set(one.id, { ...one, parentId: 0 });
        if (lost) this.#change(one.id, { lost });
      } else {
        this.#nodes.delete(one.id);
      }
    }
  }

  #allOrNothing<Result>(work: () => Result): Result {
    const before = [this.#nodes, this.#names, this.#contents, this.#nextId] as const;
    this.#nodes = new Map(this.#nodes);
    this.#names = new Map([...this.#names].map(([id, names]) => [id, new Map(names)]));
    this.#contents = new Map(this.#contents);
    try {
      return work();
    } catch (error) {
      [this.#nodes, this.#names, this.#contents, this.#nextId] = before;
      throw error;
    }
  }
}

function nameKey(name: Uint8Array): string {
  return Buffer.from(name).toString('latin1');
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function goneError(id: number): Error {
  return ebbError('ENOENT', `Node ${id} is not in the catalog any more.`);
}

function orphanNode(content: Content): Node {
  return {
    ...rootNode,
    id: content.id,
    name: lastNameOf(content.key),
    kind: NodeKind.file,
    sizeBytes: content.sizeBytes,
    version: content.version,
  };
}
