/** One open directory: where its reader is, and what did not fit into the last answer. */
import type { DirectoryBuffer } from '../../fuse/filesystem.ts';
import { EbbError } from '../../base/errors.ts';
import type { DirectoryEntry, FileType, Inode, Volume } from '../../ext4/volume.ts';
import { entryOf } from './attributes.ts';
import { NotHereYet } from './recalled-device.ts';
import type { WalkAhead } from './walk-ahead.ts';

/** d_type, in the place of st_mode where DirectoryBuffer wants it. */
const modes: Readonly<Record<FileType, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  character: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
  unknown: 0,
};

/** Cookies of "." and ".."; those of the volume are larger. */
const dotCookie = 1;
const dotDotCookie = 2;
const dot = Buffer.from('.');
const dotDot = Buffer.from('..');
/** So many inodes are asked for before they are decoded one by one. */
const prefetchEntries = 64;

/** Whose attributes a listing gives. */
export type Attributed = 'none' | 'directories' | 'all';

/** Who walks through a tree by names asks for those of directories, and for what type an entry is. */
export function needsAttributes(type: FileType): boolean {
  return type === 'directory' || type === 'unknown';
}

export class DirectoryReader {
  readonly #volume: Volume;
  readonly #inode: Inode;
  readonly #walk: WalkAhead | undefined;
  #iterator: Iterator<DirectoryEntry> | undefined;
  /** Entries that were read and not given out. */
  #ahead: DirectoryEntry[] = [];
  /** The cookie that `#ahead` begins after. */
  #position = -1;

  /** `walk`: is told of the directories that are given out. */
  constructor(volume: Volume, inode: Inode, walk: WalkAhead | undefined) {
    this.#volume = volume;
    this.#inode = inode;
    this.#walk = walk;
  }

  /** Fills the buffer with entries after `offset`. When it throws, the same may be asked again. */
  fill(buffer: DirectoryBuffer, offset: number, attributed: Attributed): void {
    try {
      this.#fill(buffer, offset, attributed);
    } catch (error) {
      // An iterator that has thrown is at its end; entries that were taken from it went with the buffer.
      this.#position = -1;
      throw error;
    }
  }

  #fill(buffer: DirectoryBuffer, offset: number, attributed: Attributed): void {
    const plus = attributed !== 'none';
    let position = offset;
    if (position < dotCookie) {
      const { number, mode } = this.#inode;
      if (!add(buffer, dot, number, mode, dotCookie, plus)) return;
      position = dotCookie;
    }
    if (position < dotDotCookie) {
      const parent = this.#volume.parent(this.#inode);
      if (!add(buffer, dotDot, parent, modes.directory, dotDotCookie, plus)) return;
      position = dotDotCookie;
    }
    this.#seek(position);
    for (;;) {
      const entry = this.#next(plus);
      if (entry === undefined) return;
      if (!this.#give(buffer, entry, attributed)) return;
      this.#ahead.shift();
      if (entry.type === 'directory') this.#walk?.meets(entry.inodeNumber);
      this.#position = entry.cookie;
    }
  }

  #seek(position: number): void {
    if (this.#position === position) return;
    const after = position === dotDotCookie ? 0 : position;
    this.#iterator = this.#volume.entries(this.#inode, after)[Symbol.iterator]();
    this.#ahead = [];
    this.#position = position;
  }

  #next(plus: boolean): DirectoryEntry | undefined {
    if (this.#ahead.length === 0) {
      const wanted = plus ? prefetchEntries : 1;
      while (this.#ahead.length < wanted) {
        const result = this.#iterator?.next();
        if (result === undefined || result.done === true) break;
        this.#ahead.push(result.value);
      }
      if (plus) this.#volume.prefetchInodes(this.#ahead.map((entry) => entry.inodeNumber));
    }
    return this.#ahead[0];
  }

  /** An entry whose inode is damaged has a name and no attributes: who asks for them hears why. */
  #give(buffer: DirectoryBuffer, entry: DirectoryEntry, attributed: Attributed): boolean {
    const { name, inodeNumber, type, cookie } = entry;
    if (attributed === 'none') return buffer.add(name, inodeNumber, modes[type], cookie);
    if (attributed === 'directories' && !needsAttributes(type)) {
      return buffer.addPlus(name, inodeNumber, modes[type], cookie, undefined);
    }
    let child: Inode | undefined;
    try {
      child = this.#volume.child(this.#inode, entry);
    } catch (error) {
      if (!(error instanceof EbbError) || error instanceof NotHereYet) throw error;
    }
    const found =
      child === undefined ? undefined : entryOf(child, this.#volume.superblock.blockSizeBytes);
    return buffer.addPlus(name, inodeNumber, child?.mode ?? modes[type], cookie, found);
  }
}

function add(
  buffer: DirectoryBuffer,
  name: Uint8Array,
  ino: number,
  mode: number,
  cookie: number,
  plus: boolean,
): boolean {
  return plus
    ? buffer.addPlus(name, ino, mode, cookie, undefined)
    : buffer.add(name, ino, mode, cookie);
}
