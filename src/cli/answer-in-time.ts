/** Questions that a daemon answers at once: who asks all of them must not wait for one that hangs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError } from '../base/errors.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { formatDuration } from './units.ts';

/** A busy disk keeps a daemon quiet for seconds; a supervisor ends one that hangs after a minute. Shorter in tests. */
const silenceMaxMs = Number(process.env['EBB_SILENCE_MS'] ?? 30_000);

/**
 * The answer to `question`, which was put to the daemon of `record`; rejects with ETIMEDOUT when it takes too long. The
 * question itself goes on: it keeps the process alive, unless that ends otherwise.
 */
export async function answerInTime<Answer>(
  { mountPoint }: RunRecord,
  question: Promise<Answer>,
): Promise<Answer> {
  const answered = new AbortController();
  const late = sleep(silenceMaxMs, undefined, { signal: answered.signal }).then(() => {
    const time = formatDuration(silenceMaxMs);
    throw ebbError(
      'ETIMEDOUT',
      `The daemon of ${mountPoint} has not answered for ${time}: it is stopped, or very busy; ` +
        'its supervisor replaces one that does nothing for a minute',
    );
  });
  // Whichever comes second is of no interest.
  late.catch(() => undefined);
  question.catch(() => undefined);
  try {
    return await Promise.race([question, late]);
  } finally {
    answered.abort();
  }
}
