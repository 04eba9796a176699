/** Paths of the control API as nodes: listing directories on the way when they were never listed. */
import { ebbError } from '../../base/errors.ts';
import { decodeName, encodeName } from '../../base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../catalog/catalog.ts';
import type { CatalogReader, Node } from '../../catalog/catalog.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import type { PathsRequest } from '../api.ts';
import { fixedDirectory, globPathMatcher } from '../glob.ts';
import { namedFiles } from '../named-files.ts';

const pageRows = 1_000;
/** `get` of a directory lists what is below it; a server's symlink cycle ends here. */
const depthMax = 128;

export interface Located {
  readonly path: string;
  readonly node: Node;
}

/** `due`: directories whose listing is not fresh are listed; `never`: the remote is asked nothing. */
export type Listing = 'due' | 'never';

export class Paths {
  readonly #catalog: CatalogReader;
  readonly #namespace: Namespace;

  constructor(catalog: CatalogReader, namespace: Namespace) {
    this.#catalog = catalog;
    this.#namespace = namespace;
  }

  /** ENOENT with the path in the sentence; errors of the remote for directories that must be listed first. */
  async find(path: string, signal: AbortSignal): Promise<Node> {
    let node = this.#root();
    for (const name of path === '' ? [] : path.split('/')) {
      if (node.kind !== NodeKind.directory)
        throw ebbError('ENOTDIR', `${path}: not a directory on the way`);
      await this.#namespace.list(node.id, signal);
      const child = this.#catalog.child(node.id, encodeName(name));
      if (child === undefined) throw ebbError('ENOENT', `${path}: no such file or directory`);
      node = child;
    }
    return node;
  }

  /**
   * As `find`, but what is known costs no question, however old it is. What is not known is asked for, unless
   * `listing` is `never`.
   */
  async findKnown(path: string, signal: AbortSignal, listing: Listing = 'due'): Promise<Node> {
    let node: Node | undefined = this.#root();
    for (const name of path === '' ? [] : path.split('/')) {
      node = this.#catalog.child(node.id, encodeName(name));
      if (node !== undefined) continue;
      if (listing === 'due') return await this.find(path, signal);
      throw ebbError('ENOENT', `${path}: not known yet`);
    }
    return node;
  }

  /** Children in order of their names' bytes. */
  async children(directory: Node, signal: AbortSignal, listing: Listing = 'due'): Promise<Node[]> {
    if (listing === 'due') await this.#namespace.list(directory.id, signal);
    return this.#knownChildren(directory);
  }

  #knownChildren(directory: Node): Node[] {
    const all: Node[] = [];
    for (let afterId = 0; ;) {
      const page = this.#catalog.children(directory.id, afterId, pageRows);
      all.push(...page);
      const last = page.at(-1);
      if (last === undefined || page.length < pageRows) break;
      afterId = last.id;
    }
    return all.sort((left, right) => Buffer.compare(left.name, right.name));
  }

  /** Everything below, depth first, a directory before its entries. */
  async *below(
    directory: Node,
    base: string,
    signal: AbortSignal,
    listing: Listing = 'due',
    depth = 0,
  ): AsyncGenerator<Located> {
    if (depth > depthMax)
      throw ebbError('ELOOP', `${base}: more than ${depthMax} directories deep`);
    for (const node of await this.children(directory, signal, listing)) {
      signal.throwIfAborted();
      const name = decodeName(node.name);
      const path = base === '' ? name : `${base}/${name}`;
      yield { path, node };
      if (node.kind === NodeKind.directory)
        yield* this.below(node, path, signal, listing, depth + 1);
    }
  }

  /** Lists every directory at and below `directory` whose turn it is. */
  async listBelow(directory: Node, base: string, signal: AbortSignal): Promise<void> {
    const below = this.below(directory, base, signal);
    while ((await below.next()).done !== true);
  }

  /**
   * The files that a request names: literal paths, directories as all that is below, and patterns. What cannot be found
   * or listed is told to `onMissing`, and the others follow.
   */
  files(
    request: PathsRequest,
    signal: AbortSignal,
    onMissing: (path: string, thrown: unknown) => void,
  ): AsyncGenerator<Located> {
    const seen = new Set<number>();
    const find = {
      atPath: (path: string) => this.#fromPath(path, signal),
      matching: (glob: string) => this.matching(glob, signal),
      isWanted: ({ node }: Located): boolean => {
        if (node.kind !== NodeKind.file || seen.has(node.id)) return false;
        seen.add(node.id);
        return true;
      },
    };
    return namedFiles(request, find, signal, onMissing);
  }

  async *#fromPath(path: string, signal: AbortSignal): AsyncGenerator<Located> {
    const node = await this.find(path, signal);
    if (node.kind === NodeKind.directory) yield* this.below(node, path, signal);
    else yield { path, node };
  }

  /** What a pattern names, of any kind. Only what its fixed directories hold is looked at. */
  async *matching(
    glob: string,
    signal: AbortSignal,
    listing: Listing = 'due',
  ): AsyncGenerator<Located> {
    const fixed = fixedDirectory(glob);
    const start = await this.findKnown(fixed, signal, listing);
    if (start.kind !== NodeKind.directory) return;
    const matchesGlob = globPathMatcher(glob);
    for await (const located of this.below(start, fixed, signal, listing)) {
      if (matchesGlob(located.path)) yield located;
    }
  }

  #root(): Node {
    const root = this.#catalog.node(ROOT_NODE_ID);
    if (root === undefined)
      throw ebbError('EUCLEAN', 'the catalog has no root directory: run ebb rebuild');
    return root;
  }
}
