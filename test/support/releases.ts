/** `ebb release` of a whole tree as a background to other work. */
import { toEbbError } from '../../src/base/errors.ts';
import type { ControlClient } from '../../src/cli/client.ts';

/** What `ebb release --json` says in its last line that it has released. */
export function releasedFiles(output: string): number {
  const last = output.trim().split('\n').at(-1) ?? '{}';
  const result = JSON.parse(last === '' ? '{}' : last) as { ok?: number; done?: { ok?: number } };
  return result.done?.ok ?? result.ok ?? 0;
}

export interface ReleaseRun {
  /** Files that were said to be released. */
  readonly released: number;
  /** The daemon went away before it had said that all was done. */
  readonly isCutOff: boolean;
}

/**
 * Of the whole tree, without a process of `ebb`, which takes longer than its work. `onReleased`: a file has gone, and
 * more may follow.
 */
export async function releaseAll(
  client: ControlClient,
  onReleased: () => void = () => undefined,
): Promise<ReleaseRun> {
  let released = 0;
  try {
    for await (const line of client.act('release', { paths: [''] })) {
      if ('done' in line || line.outcome !== 'ok' || line.doneBytes === 0) continue;
      released += 1;
      onReleased();
    }
    return { released, isCutOff: false };
  } catch (error) {
    const { code } = toEbbError(error);
    if (code !== 'EIO' && code !== 'ENOTCONN') throw error;
    return { released, isCutOff: true };
  }
}

/**
 * Brings all files of the directory `below` and releases the tree, again and again, until nobody answers any more.
 * `onReleased`: as of `releaseAll`.
 */
export async function bringAndReleaseAgainAndAgain(
  client: ControlClient,
  below: string,
  onReleased: () => void,
): Promise<number> {
  let released = 0;
  for (;;) {
    try {
      for await (const _line of client.act('get', { paths: [below] }));
    } catch {
      return released;
    }
    const run = await releaseAll(client, onReleased);
    released += run.released;
    if (run.isCutOff) return released;
  }
}
