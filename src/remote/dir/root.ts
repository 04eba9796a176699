/**
 * Which directory the root of a remote is: nothing else that is found under its path may be taken for it, neither the
 * empty mount point of a disk that is not mounted nor another disk in its place.
 *
 * The root is opened anew for every call and compared with what was there at the start. No descriptor is kept between
 * calls, so the administrator can unmount. Device and inode number do not tell two file systems apart that came one
 * after the other: device numbers are used again, and the root of every ext4 is inode 2, of a btrfs subvolume 256, of
 * an xfs mostly 128. So on local file systems a mount that was not seen before is asked for its name.
 */
import type { BigIntStats } from 'node:fs';
import { opendir, readFile, statfs } from 'node:fs/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { mountSubtype, readMountInfo } from '../../base/mount-info.ts';
import { encodeName } from '../../base/name.ts';
import { OpenFlag } from '../../sys/fd.ts';
import { filesystemUuid } from '../../sys/ioctl.ts';
import { uniqueMountId } from '../../sys/stat.ts';
import { FilesystemMagic, filesystemStatus } from '../../sys/statfs.ts';
import { Descriptor } from './descriptor.ts';
import { hasLastingInodes, hasStableInodes } from './facts.ts';
import { isLocalFilesystem } from './xattrs.ts';

export class RemoteRoot {
  /** In the lossless form of base/name.ts. */
  readonly path: string;
  /** On a local file system: attributes of what is in memory are had without waiting. */
  readonly isLocal: boolean;
  /** On a tmpfs: there is no disk to be waited for. */
  readonly isInMemory: boolean;
  /** Inode numbers stay the same while it is mounted. */
  readonly hasStableInodes: boolean;
  /**
   * `TYPE:INODE:FILESYSTEM`, each empty where nothing lasting is known: survives that the file system is unmounted and
   * mounted again, which its device number does not. FILESYSTEM is known of local ones (`filesystemName`).
   */
  readonly name: string;
  #device: bigint;
  #inode: bigint;
  /** The mount that was last found to be that of `name`. Local file systems only. */
  #mountId: bigint | undefined;

  private constructor(path: string, stats: BigIntStats, named: Named) {
    const { magic, isLocal, isStable, name, mountId } = named;
    this.path = path;
    this.#device = stats.dev;
    this.#inode = stats.ino;
    this.isLocal = isLocal;
    this.isInMemory = magic === FilesystemMagic.tmpfs;
    this.hasStableInodes = isStable;
    this.name = name;
    this.#mountId = mountId;
  }

  /** Learns which directory `path` is, through symlinks: the user chose it. Throws ENOENT, ENOTDIR, EACCES. */
  static async identify(path: string): Promise<RemoteRoot> {
    using handle = await Descriptor.open(pathBytes(path), OpenFlag.path | OpenFlag.directory);
    const stats = await handle.stat();
    return new RemoteRoot(path, stats, await nameOf(handle, stats));
  }

  /** Another one may be found when its file system was unmounted and mounted again. */
  get device(): bigint {
    return this.#device;
  }

  get pathBytes(): Buffer {
    return pathBytes(this.path);
  }

  /** Opens it (O_PATH). Throws EIO when something else is there, or nothing. */
  async open(): Promise<Descriptor> {
    let handle: Descriptor;
    try {
      handle = await Descriptor.open(this.pathBytes, OpenFlag.path | OpenFlag.directory);
    } catch (error) {
      const { code, message } = toEbbError(error);
      const gone = code === 'ENOENT' || code === 'ENOTDIR';
      throw ebbError(gone ? 'EIO' : code, `The remote root cannot be opened: ${message}`, {
        cause: error,
        retryable: true,
      });
    }
    using stack = new DisposableStack();
    stack.use(handle);
    const stats = await handle.stat();
    if (!this.#isIt(handle, stats) && !(await this.#isItAgain(handle, stats))) {
      throw ebbError('EIO', `The remote root changed: ${this.path} is another directory now.`, {
        retryable: true,
      });
    }
    stack.move();
    return handle;
  }

  /** Whether there is no name in it now. Throws as `open`, EACCES when it may not be read. */
  async isEmpty(): Promise<boolean> {
    using handle = await this.open();
    await using directory = await opendir(handle.path);
    return (await directory.read()) === null;
  }

  /** Whether an open directory is the root, as far as that can be told at once: false says nothing. */
  isIt(handle: Descriptor): boolean {
    return this.#isIt(handle, handle.statNow());
  }

  #isIt(handle: Descriptor, { dev, ino }: BigIntStats): boolean {
    if (dev !== this.#device || ino !== this.#inode) return false;
    return !this.isLocal || uniqueMountId(handle.fd) === this.#mountId;
  }

  /** Of a local root: whether an open object is on its file system, and was reached through the root's mount. */
  isOnItsMount(handle: Descriptor, { dev }: BigIntStats): boolean {
    return dev === this.#device && uniqueMountId(handle.fd) === this.#mountId;
  }

  /**
   * The same through a mount that is not known: it was unmounted and mounted again, or bound there. A file system that
   * has a name may have got another device number: btrfs any that is free, a disk that was plugged in again its own.
   */
  async #isItAgain(handle: Descriptor, stats: BigIntStats): Promise<boolean> {
    const hasNumbers = stats.dev === this.#device && stats.ino === this.#inode;
    if (!hasNumbers && !namesFilesystem(this.name)) return false;
    const { name, mountId } = await nameOf(handle, stats);
    if (!isSameRoot(this.name, name)) return false;
    this.#device = stats.dev;
    this.#inode = stats.ino;
    this.#mountId = mountId;
    return true;
  }
}

const typeAt = 0;
const inodeAt = 1;
const filesystemAt = 2;

/** Whether the name of a root tells its file system, and the directory in it, from all others. */
function namesFilesystem(name: string): boolean {
  const parts = name.split(':');
  return (parts[inodeAt] ?? '') !== '' && (parts[filesystemAt] ?? '') !== '';
}

/**
 * Whether a root named `found` is the one that was named `expected`: what that one did not tell may be any, and so may
 * an inode number that it told (an older Ebb did) of a type whose numbers do not last.
 */
export function isSameRoot(expected: string, found: string): boolean {
  const known = found.split(':');
  const tellsInode = hasLastingInodes(Number.parseInt(known[typeAt] ?? '', 16));
  return expected
    .split(':')
    .every(
      (part, index) => part === '' || (index === inodeAt && !tellsInode) || part === known[index],
    );
}

interface Named {
  /** linux/magic.h. */
  readonly magic: number;
  readonly isLocal: boolean;
  /** See `RemoteRoot.hasStableInodes`. */
  readonly isStable: boolean;
  readonly name: string;
  readonly mountId: bigint | undefined;
}

async function nameOf(handle: Descriptor, { ino }: BigIntStats): Promise<Named> {
  const magic = (await statfs(handle.path)).type >>> 0;
  const isLocal = isLocalFilesystem(magic);
  const parts = [
    magic.toString(16),
    hasLastingInodes(magic) ? String(ino) : '',
    isLocal ? await filesystemName(handle, magic) : '',
  ];
  const mountId = isLocal ? uniqueMountId(handle.fd) : undefined;
  const isStable = hasStableInodes(magic) || (await isMountOfEbb(handle));
  return { magic, isLocal, isStable, name: parts.join(':'), mountId };
}

/**
 * Whether it is a mount of Ebb's: there an inode number stands for one version, and is all that tells two of one size
 * and time apart (src/mount/attributes.ts). The file system itself is asked nothing.
 */
async function isMountOfEbb(handle: Descriptor): Promise<boolean> {
  const about = await readFile(`/proc/self/fdinfo/${handle.fd}`, 'utf8');
  const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(about)?.[1]);
  const mount = readMountInfo().find((one) => one.mountId === mountId);
  return mount?.fileSystemType === `fuse.${mountSubtype}`;
}

/**
 * Of a local file system, which answers at once: its UUID; on btrfs statfs(2)'s f_fsid, which is made of the UUID and
 * the subvolume (elsewhere it may be made of the device's number). Empty where there is none (vfat, zfs; Linux < 6.9)
 * or the directory may not be read, which is an error later.
 */
async function filesystemName(handle: Descriptor, magic: number): Promise<string> {
  if (magic === FilesystemMagic.btrfs) return filesystemStatus(handle.fd).fsid.toString(16);
  try {
    using directory = await Descriptor.open(
      Buffer.from(handle.path),
      OpenFlag.rdonly | OpenFlag.directory,
    );
    return Buffer.from(filesystemUuid(directory.fd) ?? []).toString('hex');
  } catch (error) {
    if (toEbbError(error).code === 'EACCES') return '';
    throw error;
  }
}

function pathBytes(text: string): Buffer {
  return Buffer.from(encodeName(text));
}
