/**
 * Who can still reach a tree's data past TREE itself: bind mounts and copies in other mount namespaces, overlays that
 * have it as a layer, and processes that have files or directories of a mount that was detached. While there is
 * anybody, events must be answered. Not found are files of copies that were detached by themselves, descriptors that
 * are on their way through a socket, and mount namespaces without a process (docs/semantics.md).
 *
 * Mappings are not looked for: what was mapped was brought here whole when it was mapped, and nothing is released once
 * the tree is taken away. All reads are of /proc and asynchronous; see base/mount-holders.ts.
 */
import { readFile, readdir, readlink } from 'node:fs/promises';
import { isTreeMount, parseMountInfo, readMountInfo } from '../base/mount-info.ts';
import type { MountInfo } from '../base/mount-info.ts';
import { commandName, processIds, threadIds, unlessShort } from '../base/processes.ts';
import { isInside } from '../base/run-directory.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { sharesFiles } from '../sys/process.ts';
import { fileStatus } from '../sys/stat.ts';
import type { Holder } from './messages.ts';
import { layersOf } from './overlays.ts';

/** At most this many are named; the rest change nothing about the answer. */
const holdersMax = 64;

/** The mount that users were given. */
export interface Shown {
  readonly mountId: number;
  /** `major:minor` of its file system, as mountinfo has it. */
  readonly device: string;
  /** The directory of the file system that it shows, or showed when that was last looked at: see `shownNow`. */
  readonly root: string;
  /** Where it was mounted. Missing where an older Ebb wrote it down. */
  readonly mountPoint?: string;
}

/**
 * The mount itself, wherever it is mounted now: somebody may have mounted something over it, or moved it. The root is
 * not compared: directories above it may have been renamed.
 */
export function findShown(
  { mountId, device }: Shown,
  mounts: readonly MountInfo[] = readMountInfo(),
): MountInfo | undefined {
  return mounts.find(
    (mount) => mount.mountId === mountId && mount.device === device && isTreeMount(mount),
  );
}

/** What to look for of a mount. */
export function shownAs({ mountId, device, root, mountPoint }: MountInfo): Shown {
  return { mountId, device, root, mountPoint };
}

/** The same mount, with the names that directories above it have now; as it was where it is mounted no more. */
export function shownNow(shown: Shown): Shown {
  const found = findShown(shown);
  return found === undefined ? shown : shownAs(found);
}

/**
 * Mounts that show the data or a part of it, in any namespace, but for `shown` in ours and copies that go with it; and
 * overlays over any of them.
 */
export async function otherMounts(was: Shown): Promise<Holder[]> {
  const shown = shownNow(was);
  const found: Holder[] = [];
  const namespaces = await mountNamespaces();
  const peers = peersOf(namespaces.find(({ isOurs }) => isOurs)?.mounts ?? [], shown);
  for (const { pid, isOurs, mounts } of namespaces) {
    for (const mount of mounts) {
      const isOverlay = layersOf(mount).some((layer) => leadsTo(layer, mounts, shown));
      if (!isOverlay && !showsData(mount, shown)) continue;
      if (isOurs && mount.mountId === shown.mountId) continue;
      if (!isOurs && !isOverlay && follows(mount, mounts, peers)) continue;
      const where = isOurs ? '' : ', in another mount namespace';
      found.push({
        pid,
        command: await commandName(pid),
        what: `mount ${mount.mountPoint}${where}`,
      });
      if (found.length >= holdersMax) return found;
    }
  }
  return found;
}

/** Everybody who can reach the data after the tree was taken away. `exceptPids`: our own processes. */
export async function whoReaches(shown: Shown, exceptPids: ReadonlySet<number>): Promise<Holder[]> {
  const covered = findShown(shown);
  if (covered !== undefined) {
    const what = `mount ${covered.mountPoint}, which another one covers`;
    return [{ pid: process.pid, command: await commandName(process.pid), what }];
  }
  const mounts = await otherMounts(shown);
  if (mounts.length > 0) return mounts;
  // Numbers of mounts are used again: one that is mounted somewhere is not the detached one any more.
  const inUse = (await mountNamespaces()).some((namespace) =>
    namespace.mounts.some((mount) => mount.mountId === shown.mountId),
  );
  if (inUse) return [];
  const found: Holder[] = [];
  for (const pid of await processIds()) {
    if (exceptPids.has(pid)) continue;
    const what = await whatOneHas(pid, shown.mountId);
    if (what !== undefined) found.push({ pid, command: await commandName(pid), what });
    if (found.length >= holdersMax) break;
  }
  return found;
}

interface MountNamespace {
  /** One of its processes. */
  readonly pid: number;
  readonly isOurs: boolean;
  readonly mounts: readonly MountInfo[];
}

async function mountNamespaces(): Promise<MountNamespace[]> {
  const own = await readlink('/proc/self/ns/mnt').catch(() => '');
  const seen = new Map<string, MountNamespace>();
  for (const pid of [process.pid, ...(await processIds())]) {
    const name = await readlink(`/proc/${pid}/ns/mnt`).catch(unlessShort);
    if (name === undefined || seen.has(name)) continue;
    const bytes = await readFile(`/proc/${pid}/mountinfo`).catch(unlessShort);
    if (bytes === undefined) continue;
    seen.set(name, { pid, isOurs: name === own, mounts: parseMountInfo(bytes) });
  }
  return [...seen.values()];
}

function showsData(mount: MountInfo, { device, root }: Shown): boolean {
  return mount.device === device && isInside(root, mount.root);
}

/** Whether a path of that namespace is in the data. What was mounted over it since is not looked through. */
function leadsTo(layer: string, mounts: readonly MountInfo[], shown: Shown): boolean {
  if (shown.mountPoint !== undefined && isInside(shown.mountPoint, layer)) return true;
  return mounts.some((mount) => showsData(mount, shown) && isInside(mount.mountPoint, layer));
}

/** The peer group of the mount that the shown one is mounted on: its members see it come and go. */
function peersOf(mounts: readonly MountInfo[], shown: Shown): string | undefined {
  const parentId = findShown(shown, mounts)?.parentId;
  const parent = mounts.find((mount) => mount.mountId === parentId);
  const shared = parent?.propagation.find((field) => field.startsWith('shared:'));
  return shared?.slice('shared:'.length);
}

/** Whether a copy came by propagation, and goes with the original (mount_namespaces(7)). */
function follows(
  mount: MountInfo,
  mounts: readonly MountInfo[],
  peers: string | undefined,
): boolean {
  const parent = mounts.find(({ mountId }) => mountId === mount.parentId);
  if (peers === undefined || parent === undefined) return false;
  return parent.propagation.some(
    (field) => field === `shared:${peers}` || field === `master:${peers}`,
  );
}

async function whatOneHas(pid: number, mountId: number): Promise<string | undefined> {
  for await (const directory of fileTablesOf(pid)) {
    for (const link of ['cwd', 'root']) {
      if (mountOf(`${directory}/${link}`) === mountId) return link;
    }
    for await (const descriptor of descriptorsOn(directory, mountId)) return `fd ${descriptor}`;
  }
  return undefined;
}

/** Directories in /proc of a process, one for each table of open files. */
export async function* fileTablesOf(pid: number): AsyncGenerator<string> {
  const looked: number[] = [];
  for (const task of await threadIds(pid)) {
    // Nearly always the tables of the first thread.
    if (looked.some((other) => sharesFiles(other, task))) continue;
    looked.push(task);
    yield `/proc/${pid}/task/${task}`;
  }
}

/** Numbers of the descriptors of such a table that are of a mount, which need not be mounted any more. */
export async function* descriptorsOn(directory: string, mountId: number): AsyncGenerator<string> {
  const line = new RegExp(`^mnt_id:\\s*${mountId}$`, 'm');
  for (const descriptor of (await readdir(`${directory}/fdinfo`).catch(unlessShort)) ?? []) {
    const file = `${directory}/fdinfo/${descriptor}`;
    const facts = await readFile(file, 'latin1').catch(unlessShort);
    if (facts !== undefined && line.test(facts)) yield descriptor;
  }
}

function mountOf(link: string): number | undefined {
  try {
    using file = openFd(link, OpenFlag.path);
    return fileStatus(file.fd).mountId;
  } catch (error) {
    return unlessShort(error);
  }
}
