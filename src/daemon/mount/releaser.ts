/** Gives local space back, one content at a time: what must be true first is in tree/release.ts (invariant I6). */
import { sleep } from '../../base/deadline.ts';
import { toEbbError } from '../../base/errors.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { MountServer } from '../../mount/server.ts';
import type { Remote } from '../../remote/remote.ts';
import { releaseContent } from '../../tree/release-content.ts';
import type { ReleaseResult, RemoteProof } from '../../tree/release.ts';
import type { StoredContent } from '../../tree/stored-content.ts';
import { proveContent } from '../prove.ts';
import { isOpenRefusal, outcomeOf } from '../release-outcome.ts';
import type { ReleaseOutcome, SpaceReleaser } from '../space-keeper.ts';
import type { Contents } from './contents.ts';

/**
 * Pauses between the tries of a patient release. A program that has just closed a file has left the kernel's RELEASE
 * behind, which arrives asynchronously (fuse_file_put: not even close(2) waits for it).
 */
const patiencePausesMs = [10, 20, 40, 60, 80] as const;

export interface ReleaserOptions {
  readonly contents: Contents;
  readonly catalog: Catalog;
  readonly server: MountServer;
  /** True while bytes are on their way into the content. */
  readonly isBusy: (id: number) => boolean;
  readonly remote: Remote;
  /** The content's blocks are gone: the kernel may forget the pages that it has of it. */
  readonly onReleased: (id: number) => void;
}

export interface ReleaseOptions {
  /** Asks everything and frees nothing. */
  readonly dryRun: boolean;
  /** Tries again for a moment when the file is open: it may just have been closed. Default false. */
  readonly patient?: boolean;
  readonly signal: AbortSignal;
}

export class Releaser implements SpaceReleaser {
  readonly #options: ReleaserOptions;

  constructor(options: ReleaserOptions) {
    this.#options = options;
  }

  /** As `release`; what has lost its name is deleted instead, if the remote has lost it, too. */
  async releaseForSpace(id: number, signal: AbortSignal): Promise<ReleaseOutcome> {
    const node = this.#options.catalog.node(id);
    if (node !== undefined && node.parentId !== 0) {
      return await this.release(id, { dryRun: false, signal });
    }
    return { releasedBytes: await this.dropOrphan(id, signal) };
  }

  /** Releases a content if that is safe now; a refusal says why and changes nothing. */
  async release(
    id: number,
    { dryRun, patient = false, signal }: ReleaseOptions,
  ): Promise<ReleaseOutcome> {
    const content = this.#options.contents.get(id);
    if (content === undefined) return { releasedBytes: 0 };
    if (dryRun) return await this.#wouldRelease(content, signal);
    const pausesMs: readonly number[] = patient ? patiencePausesMs : [];
    for (let attempt = 0; ; attempt += 1) {
      const result = await this.#tryRelease(content, signal);
      if (result?.released === true) this.#options.onReleased(id);
      const isOpen = result === undefined || isOpenRefusal(result);
      const pauseMs = pausesMs[attempt];
      if (isOpen && pauseMs !== undefined) await sleep(pauseMs, signal);
      else if (result === undefined) return openThrough(content);
      else return outcomeOf(result);
    }
  }

  /** Undefined: it is open through the mount. */
  async #tryRelease(
    content: StoredContent,
    signal: AbortSignal,
  ): Promise<ReleaseResult | undefined> {
    const { contents, server, isBusy } = this.#options;
    return await server.whileClosed(content.id, () =>
      releaseContent(contents.store, content, {
        prove: (proven) => this.#prove(proven, signal),
        isBusy,
      }),
    );
  }

  /**
   * Deletes the content of a name that is gone, when the remote says so definitely and nobody uses the file.
   * Returns the bytes given back.
   */
  async dropOrphan(id: number, signal: AbortSignal): Promise<number> {
    const { contents, server, isBusy, catalog } = this.#options;
    const content = contents.get(id);
    if (content === undefined || content.pinned || isBusy(id)) return 0;
    if (!(await this.#isGoneAtRemote(content, signal))) return 0;
    const dropped = await server.whileClosed(id, async () => {
      // The answer took its time: the version may be back, and with it the name.
      if (catalog.node(id)?.parentId !== 0 || content.pinned || isBusy(id)) return 0;
      // Somebody may still have it mapped: the blocks then live until that ends, and so does the mapping.
      const bytes = catalog.content(id)?.residentBytes ?? 0;
      await contents.delete(id);
      return bytes;
    });
    return dropped ?? 0;
  }

  setPinned(id: number, pinned: boolean): void {
    const content = this.#options.contents.get(id);
    if (content === undefined) return;
    this.#options.catalog.setPinned(id, pinned);
    this.#options.contents.store.setPinned(content, pinned);
  }

  async #wouldRelease(content: StoredContent, signal: AbortSignal): Promise<ReleaseOutcome> {
    if (content.pinned)
      return { refused: `${content.key} is pinned: unpin it first.`, code: 'EPERM' };
    if (this.#options.isBusy(content.id)) {
      return { refused: `${content.key} is being recalled.`, code: 'EBUSY' };
    }
    try {
      if ((await this.#options.server.openCount(content.id)) > 0) return openThrough(content);
      const proof = await this.#prove(content, signal);
      if (proof.version === content.version && proof.sizeBytes === content.sizeBytes)
        return { releasedBytes: content.residency.residentBytes };
      return {
        refused: 'the remote has another version: this may be the last copy',
        code: 'ESTALE',
      };
    } catch (error) {
      const { message, code } = toEbbError(error);
      return { refused: `the remote copy could not be verified: ${message}`, code };
    }
  }

  async #prove(content: StoredContent, signal: AbortSignal): Promise<RemoteProof> {
    return await proveContent(this.#options.remote, content, signal);
  }

  /** A definite answer: 404, or another version under this name. A failure is not one. */
  async #isGoneAtRemote(content: StoredContent, signal: AbortSignal): Promise<boolean> {
    try {
      const object = await this.#options.remote.stat(content.key, { signal });
      return object.version !== undefined && object.version !== content.version;
    } catch (error) {
      return toEbbError(error).code === 'ENOENT';
    }
  }
}

function openThrough(content: StoredContent): ReleaseOutcome {
  return { refused: `${content.key} is open through the mount.`, code: 'EBUSY' };
}
