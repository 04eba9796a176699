/** The FUSE thread's view of the namespace: catalog rows with a small memory, and how fresh they are. */
import { BoundedMap } from '../base/bounded-map.ts';
import { NodeKind, ROOT_NODE_ID } from '../catalog/catalog.ts';
import type { CatalogReader, Node } from '../catalog/catalog.ts';
import { remainingMs } from './attributes.ts';

/** Rows remembered between requests (about 400 bytes each). */
const rememberedNodesMax = 16_384;

export class NodeView {
  readonly reader: CatalogReader;
  readonly ttlMs: number;
  readonly #nowMs: () => number;
  readonly #remembered = new BoundedMap<number, Node>(rememberedNodesMax);

  constructor(reader: CatalogReader, ttlMs: number, nowMs: () => number) {
    this.reader = reader;
    this.ttlMs = ttlMs;
    this.#nowMs = nowMs;
  }

  node(id: number): Node | undefined {
    const remembered = this.#remembered.get(id);
    if (remembered !== undefined) return remembered;
    const node = this.reader.node(id);
    if (node !== undefined) this.remember(node);
    return node;
  }

  child(parentId: number, name: Uint8Array): Node | undefined {
    const node = this.reader.child(parentId, name);
    if (node !== undefined) this.remember(node);
    return node;
  }

  remember(node: Node): void {
    this.#remembered.set(node.id, node);
  }

  forget(id: number): void {
    this.#remembered.delete(id);
  }

  /** After a listing, which may have touched any row of its directory: rows are cheap to read again. */
  forgetListed(directoryId: number): void {
    // What was never listed had nothing below it that could be remembered.
    if (this.#remembered.get(directoryId)?.listedAtMs === 0) this.#remembered.delete(directoryId);
    else this.#remembered.clear();
  }

  /** How long the kernel may trust what was confirmed then. */
  remainingMs(confirmedAtMs: number): number {
    return remainingMs(confirmedAtMs, this.ttlMs, this.#nowMs());
  }

  isListingFresh(directory: Node): boolean {
    return directory.listedAtMs > 0 && this.remainingMs(directory.listedAtMs) > 0;
  }

  /** Whether whoever enters the directory has to wait for a new listing, which is then good for a while. */
  isListingStale(directory: Node): boolean {
    return this.ttlMs > 0 && !this.isListingFresh(directory);
  }

  /** Whether a file may be opened without asking the remote. */
  isVersionFresh(node: Node): boolean {
    return node.version !== null && node.exact && this.remainingMs(node.checkedAtMs) > 0;
  }

  /** The longer of what the directory's listing and the file's own check still allow. */
  entryTimeoutMs(node: Node, parent: Node | undefined): number {
    if (node.id === ROOT_NODE_ID) return this.ttlMs;
    const byListing = parent === undefined ? 0 : this.remainingMs(parent.listedAtMs);
    const byCheck = node.kind === NodeKind.file ? this.remainingMs(node.checkedAtMs) : 0;
    return Math.max(byListing, byCheck);
  }

  /** `entryTimeoutMs` of a node whose directory is not at hand. */
  nodeTimeoutMs(node: Node): number {
    return this.entryTimeoutMs(node, node.parentId === 0 ? undefined : this.node(node.parentId));
  }

  /** True for a name that is still part of the tree (not an orphan kept for its content). */
  isNamed(node: Node): boolean {
    return node.parentId !== 0 || node.id === ROOT_NODE_ID;
  }
}
