/** Has the stubs of one directory made by a thread, some at a time, while the next ones are put together. */
import { encodeName } from '../base/name.ts';
import type { MadeStub, StubMaker } from '../tree/stubs/stub-maker.ts';
import type { NewStub } from '../tree/stubs/stub-store.ts';
import type { Workshop } from './directory-work.ts';
import type { ExactFile } from './reconcile.ts';

/** Stubs that are asked for at once: some milliseconds. */
const batchMax = 64;
/** Batches of one directory under way at a time. */
const batchesMax = 2;

export interface MakingElsewhere {
  readonly maker: StubMaker;
  readonly directoryFd: number;
  readonly objects: readonly ExactFile[];
  readonly newStub: (object: ExactFile) => NewStub;
  /** Called for each object in their order; what it throws ends the work. */
  readonly take: (object: ExactFile, made: MadeStub) => void;
}

/** When it settles nothing uses the descriptor any more. Rejects as `StubMaker.make` and what `take` throws. */
export async function makeElsewhere(
  { queue, turns, signal }: Pick<Workshop, 'queue' | 'turns' | 'signal'>,
  { maker, directoryFd, objects, newStub, take }: MakingElsewhere,
): Promise<void> {
  const make = async (some: readonly ExactFile[]): Promise<void> => {
    const stubs = some.map((object) => ({ name: encodeName(object.name), stub: newStub(object) }));
    const made = await maker.make(directoryFd, stubs);
    for (const [at, object] of some.entries()) take(object, made[at] as MadeStub);
  };
  const making: Promise<void>[] = [];
  try {
    for (let index = 0; index < objects.length; index += batchMax) {
      await turns.pause();
      signal.throwIfAborted();
      const batch = make(objects.slice(index, index + batchMax));
      batch.catch(() => undefined); // it is waited for below
      making.push(batch);
      if (making.length > batchesMax) await making.shift();
      await queue.relieve();
    }
    await Promise.all(making);
  } finally {
    await Promise.allSettled(making);
  }
}
