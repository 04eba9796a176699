/** The end of a tree that was taken away while somebody still had it open: denied, until nobody has. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Denier } from './denier.ts';
import { whoReaches } from './reachability.ts';
import type { Shown } from './reachability.ts';

/** How often it is looked whether anybody is left. */
const lookIntervalMs = 1_000;

export interface FarewellOptions {
  readonly tree: string;
  /** Not started. */
  readonly denier: Denier;
  readonly log: (level: 'info' | 'warn', message: string) => void;
}

/** Resolves when nobody can reach the data, with nothing unanswered that was read. No daemon may live. */
export async function denyWhileReachable(shown: Shown, options: FarewellOptions): Promise<void> {
  const { tree, denier, log } = options;
  const own = new Set([process.pid]);
  let told = false;
  denier.start();
  try {
    for (;;) {
      const [first] = await whoReaches(shown, tree, own);
      if (first === undefined) return;
      if (!told) {
        const { pid, command, what } = first;
        log('warn', `${tree} is still used by pid ${pid} (${command}): ${what}; it gets EIO`);
        told = true;
      }
      await sleep(lookIntervalMs);
    }
  } finally {
    denier.stop();
  }
}
