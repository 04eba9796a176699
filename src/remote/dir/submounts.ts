/**
 * Remembers which directories below the root were mount points, so that an unmounted filesystem is
 * an error and not an empty directory. In memory only: what was unmounted before this process
 * started is not known.
 */
import { ebbError } from '../../base/errors.ts';
import { parentKey, splitKey } from '../key.ts';
import type { RemoteRoot } from './root.ts';
import { find } from './walk.ts';

const submountsMax = 1024;

export class SubmountGuard {
  readonly #root: RemoteRoot;
  readonly #keys = new Set<string>();

  constructor(root: RemoteRoot) {
    this.#root = root;
  }

  /** A listing saw directory `key` on another device than the directory that holds it. */
  note(key: string): void {
    if (this.#keys.size < submountsMax) this.#keys.add(key);
  }

  /**
   * Throws EIO when a filesystem that was mounted on the way to `key` (or at it) is not there now.
   */
  async check(key: string): Promise<void> {
    if (this.#keys.size === 0) return;
    const names = splitKey(key);
    for (let depth = 1; depth <= names.length; depth += 1) {
      const prefix = names.slice(0, depth).join('/');
      if (!this.#keys.has(prefix)) continue;
      using found = await find(this.#root, prefix);
      // Not with the number that was noted: that of the directory may be another one by now, too.
      using parent = await find(this.#root, parentKey(prefix) ?? '');
      if (found.stats.dev === parent.stats.dev) {
        throw ebbError('EIO', `The filesystem that was mounted at ${prefix} is gone.`, {
          retryable: true,
        });
      }
    }
  }
}
