/**
 * Writes marks. A mark may say less than the truth, never more: one that cannot be lowered is removed, and if even
 * that fails, the problem is reported.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';

import { EbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { setXattr } from '../sys/xattr.ts';
import type { ResidencyRow } from './durability.ts';
import type { TreeIdentity } from './layout.ts';
import { MarkState, encodeMark } from './mark.ts';
import { probeMarkAttribute, removeMarkAttribute } from './mark-attribute.ts';
import type { MarkAttributeName } from './mark-attribute.ts';
import type { StoredContent } from './stored-content.ts';

export class MarkKeeper {
  /** Undefined: the file system keeps no such attributes; `ebb rebuild` then starts empty. */
  readonly attributeName: MarkAttributeName | undefined;
  readonly #identity: TreeIdentity;
  readonly #report: (contentId: number, message: string, cause: unknown) => void;

  constructor(
    treeDirectory: string,
    identity: TreeIdentity,
    report: (contentId: number, message: string, cause: unknown) => void,
  ) {
    this.#identity = identity;
    this.#report = report;
    this.attributeName = probe(treeDirectory);
  }

  /** Writes the mark that says what `row`, which is committed, says. Returns false when the mark may be stale. */
  write(
    content: StoredContent,
    row: Pick<ResidencyRow, 'bitmap' | 'residentBytes' | 'complete'>,
    fd: number,
  ): boolean {
    if (this.attributeName === undefined) return true;
    try {
      const mark = encodeMark(
        {
          treeId: this.#identity.treeId,
          remoteId: this.#identity.remote,
          contentId: content.id,
          key: content.key,
          version: content.version,
          sizeBytes: content.sizeBytes,
          chunkBytes: content.residency.chunkBytes,
          residentBytes: row.residentBytes,
          state: stateOf(row),
          pinned: content.pinned,
          checksum: new Uint8Array(0),
          bitmap: row.bitmap,
        },
        content.handle,
        this.#identity,
      );
      setXattr(fd, this.attributeName, mark);
      return true;
    } catch (error) {
      return this.#remove(content, fd, error);
    }
  }

  #remove(content: StoredContent, fd: number, cause: unknown): boolean {
    try {
      removeMarkAttribute(fd);
      this.#report(
        content.id,
        `${content.key} has no mark: \`ebb rebuild\` will not find it.`,
        cause,
      );
      return true;
    } catch (error) {
      this.#report(content.id, `The mark of ${content.key} cannot be changed.`, error);
      return false;
    }
  }
}

function stateOf(row: Pick<ResidencyRow, 'residentBytes' | 'complete'>): MarkState {
  if (row.complete) return MarkState.dual;
  return row.residentBytes > 0 ? MarkState.partial : MarkState.offline;
}

function probe(treeDirectory: string): MarkAttributeName | undefined {
  const directory = mkdtempSync(path.join(treeDirectory, '.probe-'));
  try {
    using fd = openFd(path.join(directory, 'file'), OpenFlag.rdwr | OpenFlag.creat);
    return probeMarkAttribute(fd.fd);
  } catch (error) {
    if (error instanceof EbbError) return undefined;
    throw error;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
