/** Gives a tree's space back, one stub at a time: what must be true first is in tree/stubs/ (invariant I6). */
import { sleep } from '../../base/deadline.ts';
import { toEbbError } from '../../base/errors.ts';
import { StubChange } from '../../catalog/stub-catalog.ts';
import type { NativeServer } from '../../native/server.ts';
import type { Remote } from '../../remote/remote.ts';
import type { StubFile, StubStore } from '../../tree/stubs/stub-store.ts';
import { proveContent } from '../prove.ts';
import { isOpenRefusal, outcomeOf } from '../release-outcome.ts';
import type { ReleaseOutcome, SpaceReleaser } from '../space-keeper.ts';

/**
 * Pauses between the tries of a patient release: a program that has just closed a file, or an event about it that is
 * just being answered, is gone in a moment.
 */
const patiencePausesMs = [10, 20, 40, 80] as const;

export interface TreeReleaserOptions {
  readonly store: StubStore;
  readonly server: NativeServer;
  readonly remote: Remote;
  /** True while bytes are on their way into the file. */
  readonly isBusy: (id: number) => boolean;
}

export interface TreeReleaseOptions {
  /** Asks everything and frees nothing. */
  readonly dryRun: boolean;
  /** Tries again for a moment when the file is open. Default false. */
  readonly patient?: boolean;
  readonly signal: AbortSignal;
}

export class TreeReleaser implements SpaceReleaser {
  readonly #options: TreeReleaserOptions;

  constructor(options: TreeReleaserOptions) {
    this.#options = options;
  }

  async releaseForSpace(id: number, signal: AbortSignal): Promise<ReleaseOutcome> {
    return await this.release(id, { dryRun: false, signal });
  }

  /** Releases a stub if that is safe now; a refusal says why and changes nothing. */
  async release(
    id: number,
    { dryRun, patient = false, signal }: TreeReleaseOptions,
  ): Promise<ReleaseOutcome> {
    const { store } = this.#options;
    const pausesMs: readonly number[] = patient ? patiencePausesMs : [];
    for (let attempt = 0; ; attempt += 1) {
      const file = store.get(id);
      if (file === undefined) return { releasedBytes: 0 };
      const refusal = await this.#refuse(file);
      if (refusal !== undefined) return refusal;
      if (dryRun) return await this.#wouldRelease(file, signal);
      const [result] = await store.release([file], {
        prove: (proven) => proveContent(this.#options.remote, proven, signal),
        isBusy: (busyId) => this.#isBusy(busyId),
        beforeFreeing: (fd) => this.#options.server.beforeFreeing(fd),
      });
      if (result === undefined) return { releasedBytes: 0 };
      const pauseMs = pausesMs[attempt];
      if (!isOpenRefusal(result) || pauseMs === undefined) return outcomeOf(result);
      await sleep(pauseMs, signal);
    }
  }

  #isBusy(id: number): boolean {
    return this.#options.isBusy(id) || this.#options.server.isBusy(id);
  }

  /** What users changed, or may have changed, stays. */
  async #refuse(file: StubFile): Promise<ReleaseOutcome | undefined> {
    const { server } = this.#options;
    try {
      // What they did up to now must be known before anything is believed to be as it was.
      await server.changesTakenIn();
      if (file.change === StubChange.intent || file.change === StubChange.discarding) {
        await server.resolve(file);
      }
    } catch (error) {
      const { message, code } = toEbbError(error);
      return { refused: `whether it was changed cannot be found out: ${message}`, code };
    }
    switch (file.change) {
      case StubChange.clean:
        return undefined;
      case StubChange.dirty:
        return { refused: `${file.key} was changed here: there is no other copy.`, code: 'EPERM' };
      default:
        return { refused: `${file.key} is open for writing.`, code: 'EBUSY' };
    }
  }

  async #wouldRelease(file: StubFile, signal: AbortSignal): Promise<ReleaseOutcome> {
    if (file.pinned) return { refused: `${file.key} is pinned: unpin it first.`, code: 'EPERM' };
    if (this.#isBusy(file.id)) return { refused: `${file.key} is in use.`, code: 'EBUSY' };
    try {
      const proof = await proveContent(this.#options.remote, file, signal);
      if (proof.version === file.version && proof.sizeBytes === file.sizeBytes) {
        return { releasedBytes: file.residency.residentBytes };
      }
      const refused = 'the remote has another version: this may be the last copy';
      return { refused, code: 'ESTALE' };
    } catch (error) {
      const { message, code } = toEbbError(error);
      return { refused: `the remote copy could not be verified: ${message}`, code };
    }
  }
}
