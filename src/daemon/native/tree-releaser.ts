/**
 * Gives a tree's space back: what must be true first is in tree/stubs/ (invariant I6). Stubs that are released at the
 * same time share one look at what users changed and one transaction.
 */
import { StubChange } from '../../base/stub-facts.ts';
import { Batches } from '../../base/batches.ts';
import { sleep } from '../../base/deadline.ts';
import { toEbbError } from '../../base/errors.ts';
import type { Moment } from '../../native/known-files.ts';
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

interface Asked {
  readonly id: number;
  readonly signal: AbortSignal;
}

/** `again`: somebody has it open, who may be gone in a moment. */
type Answer = ReleaseOutcome & { readonly again?: boolean };

const nothingToRelease: Answer = Object.freeze({ releasedBytes: 0 });

export class TreeReleaser implements SpaceReleaser {
  readonly #options: TreeReleaserOptions;
  readonly #batches = new Batches<Asked, Answer>((asked) => this.#releaseAll(asked));

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
    if (dryRun) return await this.#wouldRelease(id, signal);
    const pausesMs: readonly number[] = patient ? patiencePausesMs : [];
    for (let attempt = 0; ; attempt += 1) {
      const { again = false, ...outcome } = await this.#batches.add({ id, signal });
      const pauseMs = pausesMs[attempt];
      if (!again || pauseMs === undefined) return outcome;
      await sleep(pauseMs, signal);
    }
  }

  /** Answers in the order of `asked`. */
  async #releaseAll(asked: readonly Asked[]): Promise<Answer[]> {
    const { store, server, remote } = this.#options;
    // Recording what came just now moves ctime on ext4 and btrfs, as a user would. Its failure `store.release` tells.
    await Promise.allSettled(asked.map(({ id }) => store.settled(id)));
    // Before what users did is taken in: it takes the remote a while to answer for all of them.
    const moments = new Map(asked.map(({ id }) => [id, this.#moment(id)]));
    const answers: (Answer | undefined)[] = await this.#refuseAll(asked.map(({ id }) => id));
    const going: StubFile[] = [];
    const signals = new Map<number, AbortSignal>();
    for (const [at, { id, signal }] of asked.entries()) {
      const file = store.get(id);
      if (answers[at] !== undefined || file === undefined) continue;
      if (signals.has(id)) {
        // Two names of one file: what the first asker gets is all there is.
        answers[at] = nothingToRelease;
        continue;
      }
      going.push(file);
      signals.set(id, signal);
    }
    const results = await store.release(going, {
      prove: (file) => proveContent(remote, file, signals.get(file.id) ?? AbortSignal.abort()),
      isBusy: (id) => this.#isBusy(id),
      // Who opens it waits for an answer from now on: the lease would send away who comes with O_NONBLOCK.
      onLease: server.askAgain,
      beforeFreeing: (fd, file) => server.beforeFreeing(fd, file, moments.get(file.id)),
      whileLeased: () => server.turn.lease(),
    });
    const resultOf = new Map(going.map(({ id }, at) => [id, results[at]]));
    return asked.map(({ id }, at) => {
      const answer = answers[at];
      const result = resultOf.get(id);
      if (answer !== undefined || result === undefined) return answer ?? nothingToRelease;
      return { ...outcomeOf(result), again: isOpenRefusal(result) };
    });
  }

  #moment(id: number): Moment | undefined {
    const { store, server } = this.#options;
    const file = store.get(id);
    return file && server.moment(file);
  }

  #isBusy(id: number): boolean {
    return this.#options.isBusy(id) || this.#options.server.isBusy(id);
  }

  /** What users changed, or may have changed, stays. In the order of `ids`; undefined: nothing is against it. */
  async #refuseAll(ids: readonly number[]): Promise<(Answer | undefined)[]> {
    try {
      // What they did up to now must be known before anything is believed to be as it was.
      await this.#options.server.changesTakenIn();
    } catch (error) {
      return ids.map(() => unknown(error));
    }
    return await Promise.all(ids.map((id) => this.#refuse(id)));
  }

  async #refuse(id: number): Promise<Answer | undefined> {
    const { server, store } = this.#options;
    const file = store.get(id);
    if (file === undefined) return nothingToRelease;
    try {
      if (file.change === StubChange.intent || file.change === StubChange.discarding) {
        await server.resolve(file);
      }
    } catch (error) {
      return unknown(error);
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

  async #wouldRelease(id: number, signal: AbortSignal): Promise<ReleaseOutcome> {
    const [refusal] = await this.#refuseAll([id]);
    const file = this.#options.store.get(id);
    if (refusal !== undefined || file === undefined) return refusal ?? nothingToRelease;
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

function unknown(error: unknown): Answer {
  const { message, code } = toEbbError(error);
  return { refused: `whether it was changed cannot be found out: ${message}`, code };
}
