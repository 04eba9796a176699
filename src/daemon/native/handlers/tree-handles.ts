/**
 * `ebb handle` and `ebb open` of a tree: a token stands for the record of a file that came from the remote, and so for
 * one inode (its file handle, with generation), whatever it is called. What users make of it is what the token reads.
 */
import { StubChange } from '../../../base/stub-facts.ts';
import { ebbError, toEbbError } from '../../../base/errors.ts';
import type { StubRecord } from '../../../catalog/stub-catalog.ts';
import { OpenFlag } from '../../../sys/fd.ts';
import type { OwnedFd } from '../../../sys/fd.ts';
import { decodeHandle, openByHandle } from '../../../sys/handle.ts';
import { pread } from '../../../sys/io.ts';
import { fileStatus } from '../../../sys/stat.ts';
import type { StubFile } from '../../../tree/stubs/stub-store.ts';
import type { FileInfo } from '../../api.ts';
import type { HandleHandlers, TokenContent } from '../../control/handlers.ts';
import { readContent } from '../../handles/read-content.ts';
import type { TokenDesk } from '../../handles/token-desk.ts';
import { treeFileInfo } from '../tree-facts.ts';
import type { TreeEntry } from '../tree-files.ts';
import type { TreeParts } from '../tree-parts.ts';

const pieceBytes = 1024 * 1024;
const staleMessage = 'The file of this token is gone.';

interface Range {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class TreeHandles implements HandleHandlers {
  readonly #parts: TreeParts;
  readonly #tokens: TokenDesk;

  constructor(parts: TreeParts, tokens: TokenDesk) {
    this.#parts = parts;
    this.#tokens = tokens;
  }

  async issue(path: string): Promise<string> {
    const { kind, record } = this.#parts.files.entry(path);
    if (kind !== 'file')
      throw ebbError('EISDIR', `${path === '' ? '' : `${path}: `}not a regular file`);
    if (record !== undefined) return this.#tokens.issue(record.id);
    throw ebbError('EOPNOTSUPP', `${path} did not come from the remote: it has no token`);
  }

  async revoke(token: string): Promise<void> {
    this.#tokens.revoke(token);
  }

  async info(token: string): Promise<FileInfo> {
    const { record, file } = this.#find(token);
    file.close();
    return treeFileInfo(await this.#entryOf(record), this.#parts.facts);
  }

  async open(token: string): Promise<TokenContent> {
    const { record, file } = this.#find(token);
    using _closing = file;
    const { change, sizeBytes } = await this.#decided(record);
    return {
      // What users made of it is as long as it is.
      sizeBytes: change === StubChange.clean ? sizeBytes : fileStatus(file.fd).sizeBytes,
      read: (range, signal) => this.#read(record, range, signal),
    };
  }

  /** The record, and its inode (O_PATH), which still has a name. Throws as `HandleHandlers`. */
  #find(token: string): { readonly record: StubRecord; readonly file: OwnedFd } {
    const record = this.#parts.catalog.get(this.#tokens.check(token));
    if (record === undefined) throw this.#tokens.stale(staleMessage);
    using stack = new DisposableStack();
    const file = stack.use(this.#openInode(record, OpenFlag.path));
    if (fileStatus(file.fd).nlink === 0) throw this.#tokens.stale(staleMessage);
    stack.move();
    return { record, file };
  }

  #openInode({ handle }: StubRecord, flags: number): OwnedFd {
    try {
      return openByHandle(this.#parts.store.rootFd, decodeHandle(handle), flags);
    } catch (error) {
      if (toEbbError(error).code === 'ESTALE') throw this.#tokens.stale(staleMessage);
      throw error;
    }
  }

  /**
   * The stub, as soon as it is known whose content it has. Throws ESTALE when it has gone, and EBUSY while somebody is
   * about to empty it: what lies in it then is neither the remote's nor his.
   */
  async #decided({ id, key }: StubRecord): Promise<StubFile> {
    const { store, server } = this.#parts;
    const stub = store.get(id);
    if (stub?.change === StubChange.discarding) await server.resolve(stub);
    if (stub === undefined || store.get(id) !== stub) throw this.#tokens.stale(staleMessage);
    if (stub.change !== StubChange.discarding) return stub;
    throw ebbError('EBUSY', `${key} is just being emptied: try again.`, { retryable: true });
  }

  /** The remote's content is recalled; what users have or may have made of it is read as it is. */
  async *#read(record: StubRecord, range: Range, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { store, recall } = this.#parts;
    for (;;) {
      signal.throwIfAborted();
      const stub = await this.#decided(record);
      if (stub.change === StubChange.clean) {
        yield* readContent(recall, stub, range, signal);
        return;
      }
      const flags = OpenFlag.rdonly | OpenFlag.nonblock | OpenFlag.noatime;
      using file = this.#openInode(record, flags);
      // Nothing is released while it is open. Before, the writer may have gone and the file have been released.
      const change = store.get(record.id)?.change;
      if (change !== StubChange.intent && change !== StubChange.dirty) continue;
      yield* readOpen(file, record.key, range, signal);
      return;
    }
  }

  /** Where the file is now. Only one that was renamed has to be looked for, in all of the tree. */
  async #entryOf({ id, key }: StubRecord): Promise<TreeEntry> {
    const { files } = this.#parts;
    try {
      const entry = files.entry(key);
      if (entry.record?.id === id) return entry;
    } catch {
      // Another one is there now, or nothing.
    }
    for await (const { path, record } of files.briefBelow('', new AbortController().signal)) {
      if (record?.id === id) return files.entry(path);
    }
    throw this.#tokens.stale(staleMessage);
  }
}

async function* readOpen(
  { fd }: OwnedFd,
  key: string,
  { offsetBytes, lengthBytes }: Range,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const endBytes = offsetBytes + lengthBytes;
  const buffer = new Uint8Array(Math.min(pieceBytes, lengthBytes));
  for (let at = offsetBytes; at < endBytes;) {
    signal.throwIfAborted();
    const count = pread(fd, buffer.subarray(0, Math.min(buffer.length, endBytes - at)), at);
    if (count <= 0) throw ebbError('EIO', `${key} was cut or cannot be read.`);
    yield buffer.subarray(0, count);
    at += count;
  }
}
