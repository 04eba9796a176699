/**
 * Files of the image as backings of FUSE passthrough: extents that the server says, checked, become a map of one file,
 * a detached EROFS mount, a backing id. The kernel reads such a file without asking anybody.
 *
 * What it reads where somebody has cut the image off is up to the kernel (6.18: EIO), so a read lease is held on it:
 * who opens it for writing waits (at most /proc/sys/fs/lease-break-time) until the mapped files are closed, and
 * nothing is mapped any more.
 *
 * It would read zeros, too, where a sparse copy of a remote image has nothing yet. So a file of such an image is
 * mapped only when all of its extents are here, on stable storage; the copy is Ebb's own, and has no lease.
 */
import { Errno } from '../../base/errno.ts';
import { EbbError, ebbError } from '../../base/errors.ts';
import { fuseBackingClose, fuseBackingOpen } from '../../sys/ioctl.ts';
import { closeLater, openFd, OpenFlag } from '../../sys/fd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { dropLease, leaseKind, tryLease } from '../../sys/lease.ts';
import { mountMap } from '../erofs/mount-map.ts';
import { mapBlockBytes } from '../erofs/plain-node.ts';
import type { ImageArea, PlainNode } from '../erofs/plain-node.ts';
import { readingAhead } from '../erofs/read-ahead.ts';
import { writeMap } from '../erofs/write-map.ts';
import type { MapRequest } from '../messages.ts';
import { isInside } from './server-words.ts';
import type { ImageRecall } from './source.ts';

/** Files that are kept mapped after their last close, because the kernel's cache of them goes with the mount. */
const keptMax = 256;
/** Files mapped at once; more are read through the server. */
const mappedMax = 1024;
/**
 * A map is as long as the image says: 8 bytes for each block of a file whose extents begin anywhere, however little of
 * it there is. So much makes 32 GiB of blocks of 4 KiB, and keeps other readers waiting for a tenth of a second.
 */
const mapMaxBytes = 64 * 1024 * 1024;
/** Of all maps of a mount, which lie on the disk of this machine; files beyond that are read through the server. */
const mapsMaxBytes = 256 * 1024 * 1024;
const leasePollMs = 500;
const fileName = 'f';
const plain = { uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: [] };

function mapOf({ sizeBytes, extents }: MapRequest, area: ImageArea): Uint8Array {
  const nodes: PlainNode[] = [
    {
      ...plain,
      permissions: 0o500,
      content: { kind: 'directory', entries: [{ name: Buffer.from(fileName), node: 1 }] },
    },
    { ...plain, permissions: 0o400, content: { kind: 'file', sizeBytes, extents } },
  ];
  return writeMap(nodes, area, mapMaxBytes);
}

/** Directories in which a map's file may be made; it needs a disk file system, and has no name. */
export const mapDirectories = ['/var/tmp', '/var/lib', '/root', '/'];

/** The first directory in which a map can be mounted over this image; undefined: this kernel or user cannot. */
export function findMapDirectory(
  imageFd: number,
  area: ImageArea,
  directories: readonly string[] = mapDirectories,
): string | undefined {
  const map = mapOf({ inode: 0, sizeBytes: 0, extents: [] }, area);
  for (const directory of directories) {
    try {
      closeLater(mountMap(map, imageFd, directory));
      return directory;
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
    }
  }
  return undefined;
}

export interface BackingsOptions {
  /** Where maps are written: `findMapDirectory`. */
  readonly directory: string;
  /** Of a remote image. */
  readonly recall: ImageRecall | undefined;
  /** For tests. Default `mapsMaxBytes`. */
  readonly mapsMaxBytes?: number;
}

interface Mapped {
  readonly file: OwnedFd;
  readonly mapBytes: number;
  users: number;
}

export class Backings implements Disposable {
  readonly #deviceFd: number;
  readonly #imageFd: number;
  readonly #area: ImageArea;
  readonly #directory: string;
  readonly #recall: ImageRecall | undefined;
  readonly #mapsMaxBytes: number;
  /** By inode, the least recently used first. */
  readonly #mapped = new Map<number, Mapped>();
  #mapsBytes = 0;
  readonly #ids = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;
  #isLeased = true;

  private constructor(
    deviceFd: number,
    imageFd: number,
    area: ImageArea,
    options: BackingsOptions,
  ) {
    this.#deviceFd = deviceFd;
    this.#imageFd = imageFd;
    this.#area = area;
    this.#directory = options.directory;
    this.#recall = options.recall;
    this.#mapsMaxBytes = options.mapsMaxBytes ?? mapsMaxBytes;
    this.#timer = setInterval(() => this.#watchLease(), leasePollMs);
    this.#timer.unref();
  }

  /** undefined when somebody has the image open for writing, or the file system of the image has no leases. */
  static tryStart(
    deviceFd: number,
    imageFd: number,
    area: ImageArea,
    options: BackingsOptions,
  ): Backings | undefined {
    try {
      return options.recall !== undefined || tryLease(imageFd, 'read')
        ? new Backings(deviceFd, imageFd, area, options)
        : undefined;
    } catch (error) {
      if (error instanceof EbbError) return undefined;
      throw error;
    }
  }

  /**
   * A backing id, or -errno: -EUCLEAN for extents that are refused, -EBUSY when nothing is mapped any more, -EAGAIN
   * when not all of them are here, -EFBIG and -ENOSPC for maps that are too large.
   */
  open(request: MapRequest): number {
    if (!this.#mayOpen()) return -Errno.EBUSY;
    if (!this.#isBacked(request)) return -Errno.EAGAIN;
    return this.#give(request.inode, () => this.#find(request));
  }

  /** The same of an inode that is mapped; -ENOENT when it is not, any more. */
  openAgain(inode: number): number {
    const mapped = this.#known(inode);
    if (mapped === undefined) return -Errno.ENOENT;
    return this.#mayOpen() ? this.#give(inode, () => mapped) : -Errno.EBUSY;
  }

  #mayOpen(): boolean {
    return this.#isLeased && this.#ids.size < mappedMax;
  }

  #give(inode: number, find: () => Mapped): number {
    try {
      const mapped = find();
      const id = fuseBackingOpen(this.#deviceFd, mapped.file.fd);
      if (id <= 0) return id === 0 ? -Errno.EIO : id;
      mapped.users += 1;
      this.#ids.set(id, inode);
      return id;
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
      return -error.errno;
    } finally {
      this.#trim();
    }
  }

  /** No file has the backing open any more. Ids that were never given out do nothing. */
  close(id: number): void {
    const inode = this.#ids.get(id);
    if (inode === undefined) return;
    this.#ids.delete(id);
    fuseBackingClose(this.#deviceFd, id);
    const mapped = this.#mapped.get(inode);
    if (mapped !== undefined) mapped.users -= 1;
    this.#trim();
    this.#giveLeaseBack();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const { file } of this.#mapped.values()) file.close();
    this.#mapped.clear();
  }

  /** Ranges that make no sense are none that are here; `writeMap` refuses them for local images. */
  #isBacked({ extents }: MapRequest): boolean {
    const recall = this.#recall;
    if (recall === undefined) return true;
    const durable = recall.durable();
    return extents.every(
      ({ imageOffsetBytes, lengthBytes }) =>
        isInside(imageOffsetBytes, lengthBytes, this.#area.endBytes) &&
        durable.has(imageOffsetBytes, lengthBytes),
    );
  }

  /** Whoever maps another file under the same number gets the first one: it was checked, too. */
  #find(request: MapRequest): Mapped {
    const known = this.#known(request.inode);
    if (known !== undefined) return known;
    const map = mapOf(request, this.#area);
    this.#trim(map.length);
    if (this.#mapsBytes + map.length > this.#mapsMaxBytes) {
      throw ebbError('ENOSPC', 'The maps of files that are open take as much as they may.');
    }
    const mounted = readingAhead(() => mountMap(map, this.#imageFd, this.#directory));
    let file: OwnedFd;
    try {
      file = openFd(fileName, OpenFlag.rdonly, 0, mounted.fd);
    } finally {
      closeLater(mounted);
    }
    const mapped = { file, mapBytes: map.length, users: 0 };
    this.#mapped.set(request.inode, mapped);
    this.#mapsBytes += map.length;
    return mapped;
  }

  /** It is the one used last now. */
  #known(inode: number): Mapped | undefined {
    const known = this.#mapped.get(inode);
    if (known === undefined) return undefined;
    this.#mapped.delete(inode);
    this.#mapped.set(inode, known);
    return known;
  }

  /** `comingBytes`: of a map for which there is to be room. */
  #trim(comingBytes = 0): void {
    const keep = this.#isLeased ? keptMax : 0;
    for (const [inode, { file, mapBytes, users }] of this.#mapped) {
      const hasRoom = this.#mapsBytes + comingBytes <= this.#mapsMaxBytes;
      if (hasRoom && this.#mapped.size <= keep) return;
      if (users > 0) continue;
      this.#mapped.delete(inode);
      this.#mapsBytes -= mapBytes;
      file.close();
    }
  }

  /** Somebody wants to write to the image: as it becomes free of mapped files, he may. */
  #watchLease(): void {
    if (this.#recall !== undefined) return;
    if (this.#isLeased && leaseKind(this.#imageFd) !== 'read') {
      this.#isLeased = false;
      this.#trim();
      this.#giveLeaseBack();
    }
  }

  #giveLeaseBack(): void {
    if (this.#isLeased || this.#mapped.size > 0) return;
    clearInterval(this.#timer);
    dropLease(this.#imageFd);
  }
}

/**
 * The whole image as an area: the largest blocks in which the server can express its places. undefined when that is
 * less than 512 bytes.
 */
export function areaOf(
  imageBytes: number,
  serverBlockBytes: number,
  startBytes: number,
): ImageArea | undefined {
  const blockBytes = mapBlockBytes(serverBlockBytes, startBytes);
  if (blockBytes === undefined) return undefined;
  const endBytes = Math.floor(imageBytes / blockBytes) * blockBytes;
  return { blockBytes, startBytes: 0, endBytes };
}
