/** What the rehearsals of mounts and of trees have in common (docs/decisions/0011-a-mount-rehearses.md). */
import { rmSync } from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';
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
  let overdue: NodeJS.Timeout | undefined;
  try {
    rmSync(directory, { recursive: true, force: true });
    teardown.add('removing its files', () => rmSync(directory, { recursive: true, force: true }));
    const timeout = new Promise<never>((_resolve, reject) => {
      overdue = setTimeout(() => reject(ebbError('ETIMEDOUT', 'too slow')), durationMaxMs);
    });
    await Promise.race([play(teardown), timeout]);
  } catch (error) {
    problem('playing', toEbbError(error));
  } finally {
    clearTimeout(overdue);
    await teardown.run(problem);
  }
}
