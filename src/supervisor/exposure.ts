/**
 * Showing the tree to users and taking it away again. TREE itself is an empty directory with nothing but `.ebb` in it;
 * what users see is a clone of `.ebb/data` that is mounted over it.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../base/errors.ts';
import { findMountHolders } from '../base/mount-holders.ts';
import { commandName } from '../base/processes.ts';
import { isTreeMount, mountAt, readMountInfo } from '../base/mount-info.ts';
import type { MountInfo } from '../base/mount-info.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { unmount, unmountAsync, UnmountFlag } from '../sys/mount.ts';
import { fileStatus, isSameFile } from '../sys/stat.ts';
import { attachMount, changeMount, cloneMount } from '../sys/mount-tree.ts';
import { dataName } from './guard.ts';
import type { HideResult, Holder } from './messages.ts';
import { findShown, otherMounts, shownAs, shownNow } from './reachability.ts';
import type { Shown } from './reachability.ts';

/** The mount of ours at `tree`, when there is one. */
export function treeMountAt(tree: string): MountInfo | undefined {
  const found = mountAt(readMountInfo(), tree);
  return found !== undefined && isTreeMount(found) ? found : undefined;
}

/**
 * Takes the mount off wherever it is in our namespace. `covered`: no path leads to it, because something else is
 * mounted over it, which is not ours to take. `gone`: nobody finds it there any more, whoever took it off.
 */
export async function takeOff(shown: Shown, lazy: boolean): Promise<'gone' | 'busy' | 'covered'> {
  const found = findShown(shown);
  if (found === undefined) return 'gone';
  if (mountThatIsSeenAt(found.mountPoint) !== shown.mountId) return 'covered';
  try {
    await unmountAsync(found.mountPoint, (lazy ? UnmountFlag.detach : 0) | UnmountFlag.nofollow);
  } catch (thrown) {
    const { code } = toEbbError(thrown);
    if (code === 'EBUSY') return 'busy';
    if (code !== 'EINVAL' && code !== 'ENOENT') throw thrown;
  }
  return findShown(shown) === undefined ? 'gone' : 'covered';
}

function mountThatIsSeenAt(place: string): number | undefined {
  try {
    using found = openFd(place, OpenFlag.path | OpenFlag.nofollow);
    return fileStatus(found.fd).mountId;
  } catch {
    return undefined;
  }
}

/** Services and sandboxes that are starting have a copy of all mounts for a moment. */
const copiesMaxMs = 2_000;
const copiesEveryMs = 200;

export class Exposure {
  readonly tree: string;
  #shown: Shown;

  private constructor(tree: string, shown: Shown) {
    this.tree = tree;
    this.#shown = shown;
  }

  /**
   * Mounts the data over `tree`. The file system must be marked and the daemon must answer. Users may be in it as soon
   * as this returns, even if it `isCovered`. `guarded`: the data as the guard has it; before Linux 6.15 what is in its
   * private mount cannot be cloned, and who owns TREE may have put something else into the place of `.ebb` meanwhile.
   * Throws EPERM, EINVAL, ENOENT, EBUSY (it is not the guarded directory, or was taken off in the same moment); nothing
   * is mounted then.
   */
  static show(tree: string, ebbDirectory: string, guarded: number): Exposure {
    using clone = cloneMount(path.join(ebbDirectory, dataName));
    if (!isSameFile(fileStatus(clone.fd), fileStatus(guarded))) {
      throw ebbError('EBUSY', `${ebbDirectory} was replaced by somebody else`);
    }
    changeMount(clone.fd, { propagation: 'private' });
    const { mountId } = fileStatus(clone.fd);
    attachMount(clone.fd, tree);
    let mounts: readonly MountInfo[];
    try {
      mounts = readMountInfo();
    } catch (error) {
      unmount(tree, UnmountFlag.detach | UnmountFlag.nofollow);
      throw error;
    }
    const found = mounts.find((mount) => mount.mountId === mountId);
    if (found === undefined) throw ebbError('EBUSY', `somebody took ${tree} away at once`);
    return new Exposure(tree, shownAs(found));
  }

  /** Whether something else is mounted over it. */
  get isCovered(): boolean {
    return mountThatIsSeenAt(this.tree) !== this.#shown.mountId;
  }

  /** What a supervisor has shown that lives no more. Undefined: it is mounted nowhere, somebody else took it away. */
  static find(tree: string, shown: Shown): Exposure | undefined {
    return findShown(shown) === undefined ? undefined : new Exposure(tree, shown);
  }

  /** For who was not told what was shown: the tree's mount at `tree`, though another one may cover it. */
  static adopt(tree: string): Exposure | undefined {
    const found = readMountInfo().findLast(
      (mount) => mount.mountPoint === tree && isTreeMount(mount),
    );
    return found === undefined ? undefined : new Exposure(tree, shownAs(found));
  }

  /** What has to be looked for when somebody may still have it open. */
  get shown(): Shown {
    return this.#shown;
  }

  /**
   * Takes the mount off TREE. Busy and not `lazy`: nothing happens, and the holders are named; a copy of the mount
   * somewhere else (bind mounts, other mount namespaces) counts, because it would stay, and so does a mount that covers
   * it. Copies may be momentary: they are looked for again for `copiesMaxMs` before they count. Lazy: what is covered
   * stays until it is not, see `takeOff`; somebody has to answer for it.
   */
  async hide(lazy: boolean): Promise<HideResult> {
    // Afterwards nothing tells what directories above it are called now.
    this.#shown = shownNow(this.#shown);
    if (!lazy) {
      const copies = await this.#copies();
      if (copies.length > 0) return { stopped: false, holders: copies };
    }
    const result = await takeOff(this.#shown, lazy);
    if (result === 'gone' || lazy) return { stopped: true, holders: [] };
    if (result === 'busy') return { stopped: false, holders: await findMountHolders(this.tree) };
    const command = await commandName(process.pid);
    const cover = { pid: process.pid, command, what: `another mount over ${this.tree}` };
    return { stopped: false, holders: [cover] };
  }

  async #copies(): Promise<Holder[]> {
    const endsAtMs = performance.now() + copiesMaxMs;
    for (;;) {
      const copies = await otherMounts(this.#shown);
      if (copies.length === 0 || performance.now() >= endsAtMs) return copies;
      await sleep(copiesEveryMs);
    }
  }
}
