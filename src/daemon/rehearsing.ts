/** What the rehearsals of mounts and of trees have in common (docs/decisions/0011-a-mount-rehearses.md). */
import { rmSync } from 'node:fs';
import { deadline } from '../base/deadline.ts';
import { toEbbError } from '../base/errors.ts';
import { abandonOnAbort } from '../remote/abortable.ts';
import type { Logbook } from './logbook.ts';
import { Teardown } from './teardown.ts';

/** A rehearsal that takes longer is given up: it only saves time. */
const durationMaxMsDefault = 2_000;

export interface RehearsalSurroundings {
  /** Removed before and after; `play` makes it. In the run directory. */
  readonly directory: string;
  readonly logbook: Logbook;
  readonly durationMaxMs?: number;
}

/**
 * Resolves when all was played through, or failed, or took too long (which is only logged), and everything that `play`
 * added to `teardown` has ended. Never rejects. `play` may be at work for a moment longer: it meets closed doors.
 */
export async function rehearsing(
  { directory, logbook, durationMaxMs = durationMaxMsDefault }: RehearsalSurroundings,
  play: (teardown: Teardown) => Promise<void>,
): Promise<void> {
  const teardown = new Teardown();
  const problem = (what: string, error: Error): void =>
    logbook.log('debug', `rehearsal, ${what}: ${error.message}`);
  try {
    rmSync(directory, { recursive: true, force: true });
    teardown.add('removing its files', () => rmSync(directory, { recursive: true, force: true }));
    using limit = deadline(durationMaxMs, undefined, 'too slow');
    await abandonOnAbort(play(teardown), limit.signal);
  } catch (error) {
    problem('playing', toEbbError(error));
  } finally {
    await teardown.run(problem);
  }
}
