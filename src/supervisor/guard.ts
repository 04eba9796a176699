/**
 * What stands between users and stubs: the groups and marks of a tree's file system, the private mount through which
 * Ebb itself works, and the tree's lock. Made in an order that leaves no window: nobody can see the tree before all of
 * it stands (exposure.ts shows it, later).
 */
import { ebbError, toEbbError } from '../base/errors.ts';
import { isOursAlone } from '../base/ours-alone.ts';
import { FanEvent } from '../fanotify/constants.ts';
import { Group } from '../fanotify/group.ts';
import type { GroupOptions } from '../fanotify/group.ts';
import { openTopLevel } from '../sys/btrfs-handle.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { tryLock } from '../sys/lease.ts';
import { fileStatus } from '../sys/stat.ts';
import { FilesystemMagic, filesystemStatus } from '../sys/statfs.ts';
import { changeMount, cloneMount } from '../sys/mount-tree.ts';

/** Inside of TREE/.ebb (docs/native.md). */
export const dataName = 'data';

/**
 * The kernel opens the file of an event while that is read: O_NONBLOCK, or a write lease that its holder does not give
 * up would keep that read, and so everybody who opens anything, waiting (45 s, /proc/sys/fs/lease-break-time).
 */
const permissions: GroupOptions = {
  class: 'preContent',
  reportTid: true,
  eventFlags: OpenFlag.rdonly | OpenFlag.noatime | OpenFlag.nonblock,
};

export type GuardPart = 'access' | 'open' | 'changes' | 'privateMount' | 'lock';

export class Guard implements Disposable {
  readonly access: Group;
  readonly open: Group;
  readonly changes: Group;
  /** The private mount (O_PATH), whose root is TREE/.ebb. In no namespace; gone when nobody holds it. */
  readonly privateMount: OwnedFd;
  /** TREE/.ebb/data through the private mount; holds the lock. */
  readonly lock: OwnedFd;
  readonly #owned: DisposableStack;

  private constructor(parts: Pick<Guard, GuardPart>, owned: DisposableStack) {
    this.access = parts.access;
    this.open = parts.open;
    this.changes = parts.changes;
    this.privateMount = parts.privateMount;
    this.lock = parts.lock;
    this.#owned = owned;
  }

  /**
   * `ebbDirectory`: TREE/.ebb, as it can be reached now. Throws EBUSY when somebody else guards this tree, EACCES when
   * the directory is not ours alone (who owns TREE can put another there), EPERM without CAP_SYS_ADMIN, EOPNOTSUPP
   * where the file system or the kernel cannot do it; leaves nothing then.
   */
  static set(ebbDirectory: string | number): Guard {
    using owned = new DisposableStack();
    const privateMount = owned.use(cloneMount(ebbDirectory));
    // What is mounted or unmounted elsewhere must not appear in it.
    changeMount(privateMount.fd, { propagation: 'private' });
    requireOurs(privateMount.fd);
    const lock = owned.use(lockData(privateMount.fd));
    const access = owned.use(Group.create(permissions));
    const open = owned.use(Group.create(permissions));
    const changes = owned.use(Group.create({ class: 'notification', reportNames: true }));
    using marked = openMarked(privateMount.fd);
    const root = marked.fd;
    ignoreMount(access, root, FanEvent.preAccess);
    ignoreMount(open, root, FanEvent.openPermission);
    // What Ebb itself writes would look like a user's change.
    ignoreMount(changes, root, FanEvent.modify | FanEvent.closeWrite);
    markFilesystem(changes, root, FanEvent.modify | FanEvent.closeWrite | FanEvent.deleteSelf);
    markFilesystem(open, root, FanEvent.openPermission);
    markFilesystem(access, root, FanEvent.preAccess);
    return new Guard({ access, open, changes, privateMount, lock }, owned.move());
  }

  /** What a supervisor that has died left with the service manager; owned from now on. */
  static adopt(parts: Readonly<Record<GuardPart, OwnedFd>>): Guard {
    using owned = new DisposableStack();
    const { privateMount, lock } = parts;
    owned.use(privateMount);
    owned.use(lock);
    const access = owned.use(Group.adopt(parts.access, 'preContent'));
    const open = owned.use(Group.adopt(parts.open, 'preContent'));
    const changes = owned.use(Group.adopt(parts.changes, 'notification'));
    return new Guard({ access, open, changes, privateMount, lock }, owned.move());
  }

  /**
   * Denies (EIO) everything that a dead daemon had taken and not answered. Before anybody reads the groups again: a
   * new event may get the number of an old one.
   */
  sweep(numbersMax: number): number {
    return this.access.sweep(numbersMax) + this.open.sweep(numbersMax);
  }

  /** The kernel allows what still waits. Only when nobody can reach the tree any more. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

function requireOurs(privateMountFd: number): void {
  if (isOursAlone(fileStatus(privateMountFd))) return;
  throw ebbError('EACCES', 'somebody else has put a directory in the place of .ebb');
}

function lockData(privateMountFd: number): OwnedFd {
  const data = openFd(
    dataName,
    OpenFlag.rdonly | OpenFlag.directory | OpenFlag.nofollow,
    0,
    privateMountFd,
  );
  try {
    if (tryLock(data.fd)) return data;
    const who =
      'it is attached under another name, or was taken away and somebody has files of it open';
    throw ebbError('EBUSY', `the files of the tree are still guarded: ${who}; see: ebb status`);
  } catch (error) {
    data.close();
    throw error;
  }
}

/**
 * What the marks are set on, through the private mount: its root. On btrfs the root of the whole file system, because
 * groups that report names refuse all subvolumes but the top-level one (EXDEV; fanotify_test_fsid(), Linux 6.18).
 */
function openMarked(privateMountFd: number): OwnedFd {
  const root = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, privateMountFd);
  if (filesystemStatus(root.fd).magic !== FilesystemMagic.btrfs) return root;
  using inside = root;
  return openTopLevel(inside.fd);
}

function ignoreMount(group: Group, root: number, events: number): void {
  group.mark(root, { on: 'mount', events, ignore: true, survivesModify: true });
}

function markFilesystem(group: Group, root: number, events: number): void {
  try {
    group.mark(root, { on: 'filesystem', events });
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    throw ebbError(code, `the file system of the tree cannot be watched: ${message}`, {
      cause: thrown,
    });
  }
}
