/**
 * How the open files of one inode are served. The kernel allows one way at a time (fs/fuse/iomode.c): while a
 * passthrough file is open, everybody else gets the same backing; while one is read through the server, so are the
 * others. Pure: backings come from a callback.
 */
export interface OpenMode {
  /** 0: through the server. */
  readonly backingId: number;
}

interface State {
  backingId: number;
  opens: number;
}

export class OpenModes {
  readonly #states = new Map<number, State>();
  #mapped = 0;

  /** Inodes that somebody has open with a backing. */
  get mappedCount(): number {
    return this.#mapped;
  }

  /**
   * Decides for another open. `request` is called when the file may get a backing: an id, or <= 0. undefined: it cannot
   * be served beside the others (O_DIRECT, while the file is mapped).
   */
  open(inode: number, isDirect: boolean, request: () => number): OpenMode | undefined {
    let state = this.#states.get(inode);
    if (state !== undefined && isDirect && state.backingId > 0) return undefined;
    if (state === undefined) {
      state = { backingId: isDirect ? 0 : Math.max(0, request()), opens: 0 };
      this.#states.set(inode, state);
      if (state.backingId > 0) this.#mapped += 1;
    }
    state.opens += 1;
    return { backingId: state.backingId };
  }

  /** Returns a backing that nobody has open any more; 0: none. */
  release(inode: number): number {
    const state = this.#states.get(inode);
    if (state === undefined) return 0;
    state.opens -= 1;
    if (state.opens > 0) return 0;
    this.#states.delete(inode);
    if (state.backingId > 0) this.#mapped -= 1;
    return state.backingId;
  }
}
