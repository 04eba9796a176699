/** The end of a tree that was taken away while somebody still had it open: denied, until nobody has. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EbbError, toEbbError } from '../base/errors.ts';
import type { Group } from '../fanotify/group.ts';
import type { Denier } from './denier.ts';
import { takeOff } from './exposure.ts';
import type { Holder } from './messages.ts';
import { whoReaches } from './reachability.ts';
import type { Shown } from './reachability.ts';

/** How often it is looked whether anybody is left. */
const lookIntervalMs = 1_000;

export interface FarewellOptions {
  readonly tree: string;
  /** Not started. */
  readonly denier: Denier;
  readonly log: (level: 'info' | 'warn', message: string) => void;
  /** At each look at which somebody is there. */
  readonly onWaiting?: () => void;
}

/**
 * Takes the tree away if it is still there, as soon as nothing covers it. Resolves when nobody can reach the data, with
 * nothing unanswered that was read. No daemon may live.
 */
export async function denyWhileReachable(shown: Shown, options: FarewellOptions): Promise<void> {
  const { tree, denier, log, onWaiting } = options;
  const own = new Set([process.pid]);
  const told = new Set<boolean>();
  denier.start();
  try {
    for (;;) {
      // What cannot be taken away counts below.
      await takeOff(shown, true).catch(() => undefined);
      const first = await whoReaches(shown, own).then(([one]) => one, toEbbError);
      if (first === undefined) return;
      const isKnown = !(first instanceof EbbError);
      if (!told.has(isKnown)) {
        log('warn', `${tree} is still used by ${described(first)}; it gets EIO`);
      }
      told.add(isKnown);
      onWaiting?.();
      await sleep(lookIntervalMs);
    }
  } finally {
    denier.stop();
  }
}

/** As long as it cannot be found out, somebody may be there. */
function described(found: Holder | EbbError): string {
  if (found instanceof EbbError) return `nobody knows whom (${found.message})`;
  return `pid ${found.pid} (${found.command}): ${found.what}`;
}

/**
 * For groups that another process lets go of at its leisure, by `drop`, when nobody can reach the data any more: no
 * file on that file system is to wait for it.
 */
export async function letGo(
  groups: readonly Group[],
  denier: Denier,
  drop: () => Promise<void>,
): Promise<void> {
  denier.start();
  try {
    for (const group of groups) group.flush('filesystem');
    await drop();
  } finally {
    denier.stop();
  }
}
