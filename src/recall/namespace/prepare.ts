/**
 * From a name to content that can be read: the node made exact and confirmed, its local file made. Every front
 * end and every verb that touches content comes through here.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { NodeKind } from '../../catalog/catalog.ts';
import type { Node } from '../../catalog/catalog.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { Requester } from '../recall.ts';
import type { Namespace } from './namespace.ts';
import { isTransferVersion } from './reconcile.ts';
import { interruptible } from './single-flight.ts';
import type { WholeFetch } from './whole-fetch.ts';

/**
 * A file whose size the remote does not tell must be fetched to be seen, and one whose version it does not tell to be
 * read; beyond this it is refused (EFBIG).
 */
const unversionedFileMaxBytes = 64 * 1024 ** 3;
/** Larger files are not fetched before somebody reads them. */
export const wholeFileMaxBytes = 1024 * 1024;

export interface LocalContents {
  /** The local file of a node that is exact and has a version; made when it does not exist. */
  contentOf(node: Node, key: string): ContentFile;
}

export interface Prepared {
  readonly node: Node;
  readonly file: ContentFile;
}

export class Preparer {
  readonly #namespace: Namespace;
  readonly #whole: WholeFetch;
  readonly #contents: LocalContents;

  constructor(namespace: Namespace, whole: WholeFetch, contents: LocalContents) {
    this.#namespace = namespace;
    this.#whole = whole;
    this.#contents = contents;
  }

  /**
   * The node with exact facts; the version of a file is null where the remote shows none. Joins a fetch of the whole
   * file when one is under way; `withContent` begins one where the file is small: a HEAD before the GET that follows
   * would double the requests.
   */
  async resolve(
    nodeId: number,
    signal?: AbortSignal,
    requester?: Requester,
    withContent = false,
  ): Promise<Node> {
    if (withContent && this.#namespace.isSmallAndVague(nodeId, wholeFileMaxBytes)) {
      const fetched = await this.#fetched(nodeId, signal, requester);
      if (fetched !== undefined) return fetched;
    }
    if (this.#whole.has(nodeId)) {
      // Its failure is not ours: a HEAD may still work where the GET did not.
      const fetched = await interruptible(this.#joined(nodeId), signal);
      if (fetched !== undefined) return fetched;
    }
    const node = await this.#namespace.resolve(nodeId, signal);
    if (node.kind === NodeKind.file && node.sizeBytes < 0) {
      return await this.#whole.fetch(node.id, unversionedFileMaxBytes, signal, requester);
    }
    return node;
  }

  /** Undefined when that failed: a HEAD may still work, and reports what does not. */
  async #fetched(
    nodeId: number,
    signal?: AbortSignal,
    requester?: Requester,
  ): Promise<Node | undefined> {
    try {
      return await this.#whole.fetch(nodeId, wholeFileMaxBytes, signal, requester);
    } catch (error) {
      if (signal?.aborted === true) throw error;
      return undefined;
    }
  }

  async #joined(nodeId: number): Promise<Node | undefined> {
    try {
      return await this.#whole.fetch(nodeId, unversionedFileMaxBytes);
    } catch {
      return undefined;
    }
  }

  /**
   * Confirms the version (when the time to live asks for it) and gives the local file. ESTALE: the name has
   * another node now. EISDIR, ENOENT, EACCES, EIO as the remote says; ENOSPC when no stub can be made.
   */
  async open(nodeId: number, signal?: AbortSignal, requester?: Requester): Promise<Prepared> {
    const exact = await this.resolve(nodeId, signal, requester);
    if (exact.id !== nodeId) throw newVersion();
    if (exact.kind === NodeKind.file && exact.version === null) {
      // Ranges that were asked for one by one could come of two contents: one request brings all of it.
      const { id } = await this.#whole.fetch(nodeId, unversionedFileMaxBytes, signal, requester);
      if (id !== nodeId) throw newVersion();
    }
    const node = await this.#namespace.revalidate(nodeId, signal);
    if (node.kind !== NodeKind.file) throw ebbError('EISDIR', 'not a file');
    if (node.version === null || node.sizeBytes < 0) {
      throw ebbError('EIO', 'the remote does not tell enough about this file to read it safely');
    }
    const file = this.#contents.contentOf(node, this.#namespace.keyOf(node.id));
    if (isTransferVersion(node.version) && !file.residency.complete) {
      // It was released, or a crash or the disk took some of it: only a new transfer brings all of one version.
      const { id } = await this.#whole.fetch(nodeId, unversionedFileMaxBytes, signal, requester);
      if (id !== nodeId) throw newVersion();
    }
    return { node, file };
  }
}

function newVersion(): EbbError {
  return ebbError('ESTALE', 'the remote has a new version of this file');
}
