/** Rows of the catalog as last read, and the keys of directories at the remote. Whoever changes nodes says so. */
import { ebbError } from '../../base/errors.ts';
import { decodeName } from '../../base/name.ts';
import { ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { CatalogReader, Node } from '../../catalog/catalog.ts';

/** Keys of directories kept in memory. */
const directoryKeysMax = 4_096;
const rememberedNodesMax = 4_096;
/** The kernel's own limit of a path (PATH_MAX); deeper names cannot be opened, and end symlink cycles of servers. */
const keyMaxBytes = 4_096;

export class KnownNodes {
  readonly #catalog: CatalogReader;
  readonly #nodes = new Map<number, Node>();
  /** Forgotten whenever a name goes away: directories never move, they only vanish. */
  readonly #directoryKeys = new Map<number, string>();

  constructor(catalog: CatalogReader) {
    this.#catalog = catalog;
  }

  node(id: number): Node | undefined {
    const remembered = this.#nodes.get(id);
    if (remembered !== undefined) return remembered;
    const node = this.#catalog.node(id);
    if (node !== undefined) this.remember(node);
    return node;
  }

  /** A name of a directory as the catalog has it now. */
  child(directoryId: number, name: Uint8Array): Node | undefined {
    const node = this.#catalog.child(directoryId, name);
    if (node !== undefined) this.remember(node);
    return node;
  }

  /** What the catalog has of the node now. */
  remember(node: Node): void {
    if (this.#nodes.size >= rememberedNodesMax) this.#nodes.clear();
    this.#nodes.set(node.id, node);
  }

  /** Facts of one node changed. */
  forget(id: number): void {
    this.#nodes.delete(id);
  }

  /** Facts of many nodes changed. */
  forgetFacts(): void {
    this.#nodes.clear();
  }

  /** Names went away. */
  forgetNames(): void {
    this.#nodes.clear();
    this.#directoryKeys.clear();
  }

  /** The remote key of a node. ENOENT for orphans, ENAMETOOLONG beyond PATH_MAX. */
  keyOf(nodeId: number): string {
    if (nodeId === ROOT_NODE_ID) return '';
    const node = this.node(nodeId);
    if (node === undefined || node.parentId === 0) {
      throw ebbError('ENOENT', `node ${nodeId} has no name any more`);
    }
    return this.keyIn(node.parentId, decodeName(node.name));
  }

  /** The same of a name in a directory. */
  keyIn(directoryId: number, name: string): string {
    const key = this.shortKeyIn(directoryId, name);
    if (key === undefined)
      throw ebbError('ENAMETOOLONG', `the path of ${name.slice(0, 80)} is too long`);
    return key;
  }

  /** `keyIn`; undefined where it would be longer than keys can be. */
  shortKeyIn(directoryId: number, name: string): string | undefined {
    const directory = this.directoryKeyOf(directoryId);
    const key = directory === '' ? name : `${directory}/${name}`;
    return key.length > keyMaxBytes ? undefined : key;
  }

  /** `keyOf` of a directory, which is remembered. */
  directoryKeyOf(directoryId: number): string {
    let key = this.#directoryKeys.get(directoryId);
    if (key === undefined) {
      // The directory above is remembered as a rule: whoever comes here has come through it.
      key = this.keyOf(directoryId);
      if (this.#directoryKeys.size >= directoryKeysMax) this.#directoryKeys.clear();
      this.#directoryKeys.set(directoryId, key);
    }
    return key;
  }
}
