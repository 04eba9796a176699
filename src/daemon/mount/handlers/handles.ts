/** `ebb handle` and `ebb open` of a mount: a token stands for a node, that is one version of one file. */
import { ebbError, toEbbError } from '../../../base/errors.ts';
import { decodeName } from '../../../base/name.ts';
import { NodeKind } from '../../../catalog/catalog.ts';
import type { Node } from '../../../catalog/catalog.ts';
import type { FileInfo } from '../../api.ts';
import type { HandleHandlers, TokenContent } from '../../control/handlers.ts';
import { daemonRequester } from '../../control/get.ts';
import { readContent } from '../../handles/read-content.ts';
import type { DaemonParts } from '../parts.ts';
import { fileInfo } from './facts.ts';

const staleMessage = 'The file of this token is gone, or the remote has a new version of it.';

export class Handles implements HandleHandlers {
  readonly #parts: DaemonParts;

  constructor(parts: DaemonParts) {
    this.#parts = parts;
  }

  async issue(path: string, signal: AbortSignal): Promise<string> {
    const { paths, preparer, tokens } = this.#parts;
    const node = await paths.find(path, signal);
    if (node.kind !== NodeKind.file)
      throw ebbError('EISDIR', `${path === '' ? '' : `${path}: `}not a regular file`);
    // Facts that are not exact may still turn out to be those of another node.
    return tokens.issue((await preparer.resolve(node.id, signal)).id);
  }

  async revoke(token: string): Promise<void> {
    this.#parts.tokens.revoke(token);
  }

  async info(token: string): Promise<FileInfo> {
    const { catalog, facts, tokens } = this.#parts;
    const node = this.#node(tokens.check(token));
    const names = catalog.path(node.id)?.map((name) => decodeName(name));
    return fileInfo((names ?? []).join('/'), node, facts);
  }

  async open(token: string, signal: AbortSignal): Promise<TokenContent> {
    const { preparer, recall, tokens } = this.#parts;
    const { id } = this.#node(tokens.check(token));
    try {
      const { file } = await preparer.open(id, signal, daemonRequester());
      return {
        sizeBytes: file.sizeBytes,
        read: (range, reading) => readContent(recall, file, range, reading),
      };
    } catch (error) {
      const { code } = toEbbError(error);
      if (code === 'ESTALE' || code === 'ENOENT') throw this.#parts.tokens.stale(staleMessage);
      throw error;
    }
  }

  /** What still has a name. */
  #node(id: number): Node {
    const node = this.#parts.catalog.node(id);
    if (node === undefined || node.parentId === 0) throw this.#parts.tokens.stale(staleMessage);
    return node;
  }
}
