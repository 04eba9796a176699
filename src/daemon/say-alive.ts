/** A daemon's part of the watchdog (src/supervisor/watchdog.ts). */
import { aliveEveryMs } from '../supervisor/watchdog.ts';

/** Calls `alive` now and then again and again, each time after a `turn` through all threads. Returns what ends it. */
export function sayAlive(turn: () => Promise<void>, alive: () => void): () => void {
  let asking = false;
  // It is watched from the first word on: a thread may be caught as soon as it has begun.
  alive();
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    turn()
      .then(alive)
      // It is closed: what takes its time now is bounded elsewhere.
      .catch(() => undefined)
      .finally(() => (asking = false));
  }, aliveEveryMs);
  return () => clearInterval(timer);
}
