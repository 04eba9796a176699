/**
 * An image as a FUSE file system, read only. Every answer comes from the volume at once. What the volume throws is the
 * errno that the caller gets; where a part of a remote image is not here, the request is deferred (recalled-loop.ts)
 * and comes again as if it were new. So no method may leave anything behind when it throws.
 */
import { constants } from 'node:fs';
import { Errno } from '../../base/errno.ts';
import { EbbError } from '../../base/errors.ts';
import {
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_PASSTHROUGH,
  InitFlag,
} from '../../fuse/constants.ts';
import type { Call, ConnectionInfo, DeferredCall, FileSystem } from '../../fuse/filesystem.ts';
import { isDamage } from '../../ext4/errors.ts';
import type { Inode, Volume } from '../../ext4/volume.ts';
import { BoundedMap } from '../../base/bounded-map.ts';
import { AttributeSurvey } from './attribute-survey.ts';
import { attributesOf, entryOf, inodeNumberOf, timeoutMs } from './attributes.ts';
import { DirectoryReader } from './directory-reader.ts';
import { NamesOnly } from './names-only.ts';
import { OpenModes } from './open-modes.ts';
import { OpenSurvey } from './open-survey.ts';
import { runsOf, runsPerRequestMax, seekContent } from './extent-list.ts';
import type { RunList, RunsBounds } from './extent-list.ts';
import type { FilePlaces } from '../messages.ts';
import type { OpenImage } from './open.ts';
import { ReadAhead } from './read-ahead.ts';
import { NotHereYet } from './recalled-device.ts';
import type { RecalledDevice } from './recalled-device.ts';
import { isShownXattr } from './shown-xattrs.ts';
import { WalkAhead } from './walk-ahead.ts';

/** Where backings come from: the broker. */
export interface BackingSource {
  /** A backing id, or -errno. */
  request(places: FilePlaces): number;
  /** The same of a file whose places the broker was told; -ENOENT when it has forgotten them. */
  again(inode: number): number;
  release(id: number): void;
}

export interface FileSystemOptions {
  /** Without it everything is read through this process. */
  readonly backings?: BackingSource | undefined;
  /** Of a remote image: what is fetched before a sequential reader, at most. */
  readonly readAheadMaxBytes?: number | undefined;
  /** Of a remote image. */
  readonly waiting?: WaitingRoom;
  /** See `Notifier`. Without it listings have all the attributes that the kernel asks for. */
  readonly prune?: (nodeIds: readonly number[]) => void;
}

/** Requests that wait for parts of a remote image. */
export interface WaitingRoom {
  /** The request under way has been deferred. */
  enter(call: DeferredCall, reason: NotHereYet): void;
  /** Its requester does not want to wait any more. */
  interrupt(unique: number): void;
}

interface OpenFile {
  readonly inode: Inode;
  readonly ahead: ReadAhead | undefined;
}

/** Opening a backing costs what reading this much through the server does. */
const mappedMinimumBytes = 1024 * 1024;
const handlesMax = 1_000_000;
/** Listed last without having been opened. */
const unopenedMax = 64;
/** Files of which it is remembered where their bytes are, while they are read through the server ... */
const placesKnownMax = 256;
/** ... and how many runs they may have. Others are read through the volume. */
const placesRunsMax = 4096;
const placesBounds = { runsMax: placesRunsMax, lookedAtMax: runsPerRequestMax };
/** Whoever opens a file does not keep all others waiting: with more runs it is read through the server. */
const mappedBounds = { runsMax: runsPerRequestMax, lookedAtMax: runsPerRequestMax };
/** Files that turned out not to be simply in places, or in too many of them: not tried again while remembered. */
const unmappableMax = 1024;
/** Files with more runs than `placesRunsMax` that were mapped last: their runs are not collected again. */
const fragmentedMax = 256;
const seekData = 3;
const seekHole = 4;
/** FUSE 7.45 (Linux 6.18) has PRUNE. */
const minorWithPrune = 45;
const noEntry = {
  nodeId: 0,
  generation: 0,
  entryTimeoutMs: timeoutMs,
  attributeTimeoutMs: 0,
} as const;

export class ImageFileSystem implements FileSystem {
  readonly #volume: Volume;
  readonly #imageFd: number;
  readonly #startBytes: number | undefined;
  readonly #blockSizeBytes: number;
  readonly #files = new Map<number, OpenFile>();
  readonly #modes = new OpenModes();
  readonly #backings: BackingSource | undefined;
  readonly #recalled: RecalledDevice | undefined;
  readonly #waiting: WaitingRoom | undefined;
  readonly #readAheadMaxBytes: number;
  readonly #directories = new Map<number, DirectoryReader>();
  /** null: too many runs, or none. By inode. */
  readonly #places = new BoundedMap<number, RunList | null>(placesKnownMax);
  readonly #fragmented = new BoundedMap<number, true>(fragmentedMax);
  readonly #unmappable = new BoundedMap<number, true>(unmappableMax);
  /** What the kernel lists without opening it, by inode. */
  readonly #unopenedDirectories = new BoundedMap<number, DirectoryReader>(unopenedMax);
  /** Not of a remote image, of which nothing is fetched that nobody asked for. */
  readonly #walk: WalkAhead | undefined;
  readonly #prune: FileSystemOptions['prune'];
  readonly #survey: AttributeSurvey;
  readonly #openSurvey: OpenSurvey;
  #opensNothing = false;
  #agreed = 0n;
  #lastHandle = 0;
  #buffer = new Uint8Array(1024 * 1024);

  constructor(image: OpenImage, imageFd: number, options: FileSystemOptions = {}) {
    this.#backings = options.backings;
    this.#recalled = image.recalled;
    this.#waiting = options.waiting;
    this.#readAheadMaxBytes = options.readAheadMaxBytes ?? 0;
    this.#volume = image.volume;
    this.#walk = image.recalled === undefined ? new WalkAhead(image.volume) : undefined;
    this.#prune = options.prune;
    this.#survey = new AttributeSurvey(image.volume);
    this.#openSurvey = new OpenSurvey(image.volume, mappedMinimumBytes);
    this.#imageFd = imageFd;
    this.#startBytes = image.startBytes;
    this.#blockSizeBytes = image.volume.superblock.blockSizeBytes;
  }

  init({ flags, kernelMinor }: ConnectionInfo): void {
    this.#agreed = flags;
    if (this.#walk === undefined || this.#prune === undefined) return;
    if (kernelMinor >= minorWithPrune) this.#walk.namesOnly = new NamesOnly(this.#prune);
  }

  lookup(call: Call, parentId: number, name: Uint8Array): void {
    this.#answering(call, () => {
      const directory = this.#inode(parentId);
      const entry = this.#volume.lookup(directory, name);
      if (entry === undefined) {
        call.entry({ ...noEntry, attributes: attributesOf(directory, this.#blockSizeBytes) });
      } else {
        const child = this.#volume.child(directory, entry);
        if (child.type !== 'directory') this.#walk?.namesOnly?.lookedUp(directory.number);
        call.entry(entryOf(child, this.#blockSizeBytes));
      }
    });
  }

  getattr(call: Call, nodeId: number): void {
    this.#answering(call, () => {
      call.attributes(attributesOf(this.#inode(nodeId), this.#blockSizeBytes), timeoutMs);
    });
  }

  readlink(call: Call, nodeId: number): void {
    this.#answering(call, () => call.data(this.#volume.symlinkTarget(this.#inode(nodeId))));
  }

  open(call: Call, nodeId: number, flags: number): void {
    if (this.#isOpenNeedless()) return void call.error(Errno.ENOSYS);
    this.#answering(call, () => {
      if ((flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0) return call.error(Errno.EROFS);
      const inode = this.#inode(nodeId);
      const handle = this.#handle();
      const ahead =
        this.#recalled === undefined ? undefined : new ReadAhead(this.#readAheadMaxBytes);
      const file: OpenFile = { inode, ahead };
      const isDirect = (flags & constants.O_DIRECT) !== 0;
      const mode = this.#modes.open(inode.number, isDirect, () => this.#backing(inode));
      // The kernel cannot read the backing without its cache, nor the file through us at the same time.
      if (mode === undefined) return call.error(Errno.EINVAL);
      this.#files.set(handle, file);
      const taken =
        mode.backingId > 0
          ? call.opened(handle, FOPEN_PASSTHROUGH | FOPEN_NOFLUSH, mode.backingId)
          : call.opened(handle, (isDirect ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE) | FOPEN_NOFLUSH);
      if (!taken) this.#closed(handle);
      return taken;
    });
  }

  read(call: Call, nodeId: number, handle: number, offset: number, sizeBytes: number): void {
    this.#answering(call, () => {
      const file = this.#file(nodeId, handle);
      if (file === undefined) return call.error(Errno.EBADF);
      const wanted = Math.min(sizeBytes, file.inode.sizeBytes - offset);
      if (wanted <= 0) return call.data(this.#buffer.subarray(0, 0));
      this.#readAhead(file, offset, wanted);
      // Of a remote image nothing is read past the device, which knows what is here.
      const places = this.#recalled === undefined ? this.#placesOf(file.inode) : null;
      const place = places?.placeOf(offset, wanted);
      if (place !== undefined) return call.dataFromFile(this.#imageFd, place, wanted, wanted);
      const bytes = this.#bytes(wanted);
      const count = this.#volume.read(file.inode, offset, bytes);
      return call.data(bytes.subarray(0, count));
    });
  }

  release(call: Call, _nodeId: number, handle: number): void {
    this.#closed(handle);
    call.ok();
  }

  interrupt(unique: number): void {
    this.#waiting?.interrupt(unique);
  }

  lseek(call: Call, nodeId: number, handle: number, offset: number, whence: number): void {
    this.#answering(call, () => {
      const file = this.#file(nodeId, handle);
      if (file === undefined) return call.error(Errno.EBADF);
      if (whence !== seekData && whence !== seekHole) return call.error(Errno.EINVAL);
      const what = whence === seekData ? 'data' : 'hole';
      const found = seekContent(this.#volume, file.inode, offset, what);
      return found === undefined ? call.error(Errno.ENXIO) : call.offset(found);
    });
  }

  opendir(call: Call, nodeId: number): void {
    if ((this.#agreed & InitFlag.NO_OPENDIR_SUPPORT) !== 0n) return void call.error(Errno.ENOSYS);
    this.#answering(call, () => {
      const handle = this.#handle();
      this.#directories.set(handle, this.#reader(nodeId));
      if (!call.opened(handle, FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE))
        this.#directories.delete(handle);
    });
  }

  readdir(call: Call, nodeId: number, handle: number, offset: number, plus: boolean): void {
    this.#answering(call, () => {
      const reader = this.#directory(nodeId, handle);
      if (reader === undefined) return call.error(Errno.EBADF);
      const number = inodeNumberOf(nodeId);
      if (offset === 0) this.#walk?.begins(number);
      const attributed = this.#walk?.namesOnly?.leavesOut(number) === true ? 'directories' : 'all';
      reader.fill(call.directory(), offset, plus ? attributed : 'none');
      return call.directoryDone();
    });
  }

  releasedir(call: Call, _nodeId: number, handle: number): void {
    this.#directories.delete(handle);
    call.ok();
  }

  admitted(): void {
    this.#walk?.work();
  }

  statfs(call: Call): void {
    this.#answering(call, () => {
      const facts = this.#volume.statfs();
      return call.statfs({
        blocks: facts.blocks,
        blocksFree: facts.freeBlocks,
        blocksAvailable: facts.availableBlocks,
        files: facts.inodes,
        filesFree: facts.freeInodes,
        blockSizeBytes: facts.blockSizeBytes,
        nameMaxBytes: facts.nameMaxBytes,
        fragmentSizeBytes: facts.blockSizeBytes,
      });
    });
  }

  getxattr(call: Call, nodeId: number, name: Uint8Array, sizeBytes: number): void {
    this.#answering(call, () => {
      // The kernel does not ask again, for any file.
      if (this.#survey.saysNone()) return call.error(Errno.ENOSYS);
      const found = isShownXattr(name)
        ? this.#volume
            .xattrs(this.#inode(nodeId))
            .find((xattr) => Buffer.from(xattr.name).equals(name))
        : undefined;
      return found === undefined
        ? call.error(Errno.ENODATA)
        : answerSized(call, found.value, sizeBytes);
    });
  }

  listxattr(call: Call, nodeId: number, sizeBytes: number): void {
    this.#answering(call, () => {
      const names = this.#volume
        .xattrs(this.#inode(nodeId))
        .filter(({ name }) => isShownXattr(name))
        .flatMap(({ name }) => [name, Uint8Array.of(0)]);
      return answerSized(call, Buffer.concat(names), sizeBytes);
    });
  }

  /** Handle 0: nobody opened it (`noOpen`). */
  #file(nodeId: number, handle: number): OpenFile | undefined {
    return handle === 0
      ? { inode: this.#inode(nodeId), ahead: undefined }
      : this.#files.get(handle);
  }

  /** Who lists a directory twice at once makes the reader jump, which costs him time and nothing else. */
  #directory(nodeId: number, handle: number): DirectoryReader | undefined {
    if (handle !== 0) return this.#directories.get(handle);
    const known = this.#unopenedDirectories.get(nodeId);
    if (known !== undefined) return known;
    const reader = this.#reader(nodeId);
    this.#unopenedDirectories.set(nodeId, reader);
    return reader;
  }

  #reader(nodeId: number): DirectoryReader {
    return new DirectoryReader(this.#volume, this.#inode(nodeId), this.#walk);
  }

  /**
   * Once true, it stays so: the kernel asks no more, nor does it say any more what is closed, so nothing may be mapped
   * then. Of a remote image it is never agreed on: read-ahead is an open file's.
   */
  #isOpenNeedless(): boolean {
    if ((this.#agreed & InitFlag.NO_OPEN_SUPPORT) === 0n) return false;
    this.#opensNothing ||=
      this.#backings === undefined ||
      (this.#openSurvey.saysNeedless() && this.#modes.mappedCount === 0);
    return this.#opensNothing;
  }

  #closed(handle: number): void {
    const file = this.#files.get(handle);
    if (file === undefined) return;
    this.#files.delete(handle);
    const backingId = this.#modes.release(file.inode.number);
    if (backingId > 0) this.#backings?.release(backingId);
  }

  /** A backing id for a file that is worth one, or <= 0. */
  #backing(inode: Inode): number {
    const { type, sizeBytes, number } = inode;
    if (this.#backings === undefined || type !== 'file' || sizeBytes < mappedMinimumBytes) return 0;
    if (this.#unmappable.has(number)) return 0;
    if (this.#fragmented.has(number)) {
      const id = this.#backings.again(number);
      if (id !== -Errno.ENOENT) return id;
    }
    const runs = this.#allRuns(inode);
    if (runs === undefined) return 0;
    const id = this.#backings.request({ inode: number, sizeBytes, runs: runs.numbers });
    if (id > 0 && runs.count > placesRunsMax) this.#fragmented.set(number, true);
    return id;
  }

  /** The runs, unless parts of the map are still at the remote: who opens a file does not wait for all of its map. */
  #allRuns(inode: Inode): RunList | undefined {
    const start = this.#startBytes;
    if (start === undefined) return undefined;
    const collect = (): RunList | undefined => {
      const runs = this.#runs(inode, start, mappedBounds);
      if (runs === undefined) this.#unmappable.set(inode.number, true);
      return runs;
    };
    if (this.#recalled === undefined) return collect();
    try {
      return this.#recalled.with('look', collect);
    } catch (error) {
      if (error instanceof EbbError && error.retryable) return undefined;
      throw error;
    }
  }

  #readAhead(file: OpenFile, offset: number, sizeBytes: number): void {
    const range = file.ahead?.reading(offset, sizeBytes, file.inode.sizeBytes);
    if (range !== undefined) {
      this.#volume.prefetchContent(file.inode, range.offsetBytes, range.lengthBytes);
    }
  }

  #inode(nodeId: number): Inode {
    return this.#volume.inode(inodeNumberOf(nodeId));
  }

  #handle(): number {
    if (this.#files.size + this.#directories.size >= handlesMax) {
      throw new EbbError('ENFILE', `More than ${handlesMax} files of the image are open.`);
    }
    return (this.#lastHandle += 1);
  }

  #placesOf(inode: Inode): RunList | null {
    if (this.#startBytes === undefined) return null;
    let places = this.#places.get(inode.number);
    if (places === undefined) {
      places = this.#runs(inode, this.#startBytes, placesBounds) ?? null;
      this.#places.set(inode.number, places);
    }
    return places;
  }

  /** None of a damaged map: what can be read of the file is read through the volume, which knows from where on not. */
  #runs(inode: Inode, startBytes: number, bounds: RunsBounds): RunList | undefined {
    try {
      return runsOf(this.#volume, inode, startBytes, bounds);
    } catch (error) {
      if (error instanceof EbbError && isDamage(error)) return undefined;
      throw error;
    }
  }

  /** What `act` throws before it answers becomes the answer. Bugs go on to the session, which answers EIO. */
  #answering(call: Call, act: () => unknown): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof EbbError)) throw error;
      if (error instanceof NotHereYet && this.#waiting !== undefined) {
        this.#waiting.enter(call.defer(), error);
      } else call.error(error.errno);
    }
  }

  #bytes(sizeBytes: number): Uint8Array {
    if (this.#buffer.length < sizeBytes) this.#buffer = new Uint8Array(sizeBytes);
    return this.#buffer.subarray(0, sizeBytes);
  }
}

function answerSized(call: Call, value: Uint8Array, sizeBytes: number): boolean {
  if (sizeBytes === 0) return call.xattrSize(value.length);
  return value.length > sizeBytes ? call.error(Errno.ERANGE) : call.data(value);
}
