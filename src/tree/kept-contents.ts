/**
 * The contents that a store has in hand: loaded ones, their open descriptors, their claims on the way to the record
 * (durability.ts), and who may use or write them now. The same for the cache of a mount and for a tree.
 */
import { ebbError } from '../base/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { ManySyncs, syncEach } from '../sys/sync-many.ts';
import { DescriptorCache } from './descriptor-cache.ts';
import type { DescriptorUse } from './descriptor-cache.ts';
import { ResidencyLog } from './durability.ts';
import type { DurabilityLimits, DurabilityPort } from './durability.ts';
import { LoadedContents } from './loaded-contents.ts';
import type { ContentPort, LocalContent } from './local-content.ts';
import { WritesAtOnce } from './local-io.ts';
import type { Place } from './local-io.ts';
import { ReleaseGate } from './release-gate.ts';
import { Residency, chunkBytesFor } from './residency.ts';
import type { Room } from './room.ts';

export interface StoreLimits extends DurabilityLimits {
  readonly openDescriptorsMax?: number;
  readonly reservedBytes?: number;
  readonly chunkBytes?: number;
}

export interface KeptContentsOptions<Content extends LocalContent> {
  /** Opens and verifies a content's file for writing. */
  readonly open: (id: number) => OwnedFd;
  readonly room: Room;
  readonly record: Omit<DurabilityPort<Content>, 'use' | 'syncData'>;
  readonly limits: StoreLimits | undefined;
  /** Of one file, for tests of fault handling. */
  readonly syncData: ((fd: number) => Promise<void>) | undefined;
}

export class KeptContents<Content extends LocalContent> implements ContentPort<Content> {
  readonly gate = new ReleaseGate();
  readonly descriptors: DescriptorCache;
  readonly log: ResidencyLog<Content>;
  readonly #room: Room;
  readonly #atOnce = new WritesAtOnce();
  readonly #syncs = new ManySyncs();
  readonly #loaded = new LoadedContents<Content>();

  constructor(options: KeptContentsOptions<Content>) {
    const { record, syncData } = options;
    this.#room = options.room;
    this.descriptors = new DescriptorCache(options.open, options.limits?.openDescriptorsMax);
    this.log = new ResidencyLog(
      {
        use: (content) => this.use(content),
        syncData: (fds, onFailed) =>
          syncData === undefined
            ? this.#syncs.run(fds, onFailed)
            : syncEach(fds, syncData, onFailed),
        commit: (rows) => record.commit(rows),
        mark: (content, row, fd) => record.mark(content, row, fd),
        syncFailed: (content, error) => record.syncFailed(content, error),
        commitFailed: (error) => record.commitFailed(error),
      },
      options.limits,
    );
  }

  get(id: number): Content | undefined {
    return this.#loaded.get(id);
  }

  add(content: Content): void {
    this.#loaded.set(content.id, content, content.residency.buffer.byteLength);
  }

  /** A content that was deleted must not claim anything for another one that has its id by now. Throws ESTALE. */
  requireCurrent(content: Content): void {
    if (this.#loaded.get(content.id) === content) return;
    throw ebbError('ESTALE', `The local content of ${content.key} was deleted.`);
  }

  /** Throws EBUSY while the content is being released. */
  requireNotReleasing({ id, key }: Content): void {
    if (!this.gate.isShut(id)) return;
    throw ebbError('EBUSY', `${key} is just being released.`, { retryable: true });
  }

  use(content: Content): DescriptorUse {
    this.requireCurrent(content);
    this.requireNotReleasing(content);
    return this.descriptors.use(content.id);
  }

  async admitWrite(content: Content, lengthBytes: number): Promise<void> {
    this.#room.require(lengthBytes);
    await this.gate.opened(content.id);
    if (this.log.isFull) await this.log.drained();
    this.dirtied(content);
  }

  tryAdmitWrite(content: Content, lengthBytes: number): boolean {
    if (this.gate.isShut(content.id) || this.log.isFull) return false;
    this.#room.require(lengthBytes);
    this.dirtied(content);
    return true;
  }

  writeAtOnce(fd: number, bytes: Uint8Array, offsetBytes: number): boolean {
    return this.#atOnce.write(fd, bytes, offsetBytes, this.log.uncommittedBytes);
  }

  dirtied(content: Content): void {
    this.requireCurrent(content);
    this.log.opened(content);
  }

  marked(content: Content, addedBytes: number): void {
    this.requireCurrent(content);
    this.log.marked(content, addedBytes);
  }

  /**
   * For release: closes our own descriptor and keeps everybody in this process away from the file until disposed.
   * Undefined when somebody here is using it.
   */
  beginRelease({ id, isWriting }: Content): Disposable | undefined {
    if (isWriting || this.gate.isShut(id) || !this.descriptors.drop(id)) return undefined;
    return this.gate.shut(id);
  }

  /** The content is deleted, or not ours any more: nothing will be claimed for it. */
  async drop(id: number): Promise<void> {
    await this.gate.opened(id);
    await this.log.forget(id);
    this.#loaded.get(id)?.residency.clear();
    this.#loaded.delete(id);
    this.descriptors.detach(id);
  }

  /** Closes everything without committing. */
  abandon(): void {
    this.log.abandon();
    this.#syncs[Symbol.dispose]();
    this.descriptors[Symbol.dispose]();
  }
}

/** What a record says is here; nothing, after `onBadRecord`, when it cannot be read. */
export function recordedResidency(
  facts: {
    readonly key: string;
    readonly bitmap: Uint8Array;
    readonly sizeBytes: number;
    readonly chunkBytes: number;
  },
  onBadRecord: (message: string, cause: unknown) => void,
): Residency {
  const { key, bitmap, sizeBytes, chunkBytes } = facts;
  try {
    const residency = Residency.decode(bitmap, sizeBytes, chunkBytes);
    residency.noteRecorded();
    return residency;
  } catch (cause) {
    onBadRecord(
      `The record of what is here of ${key} cannot be read; it is recalled again.`,
      cause,
    );
    return Residency.create(sizeBytes, chunkBytesFor(sizeBytes));
  }
}

/** For people, when the disk did not take a content's bytes. */
export function syncFailedMessage(key: string, place: Place): string {
  return `The disk did not take the bytes of ${key}; they are recalled again. Check the disk of the ${place}.`;
}

export const commitFailedMessage = 'What was recalled could not be recorded; trying again.';
