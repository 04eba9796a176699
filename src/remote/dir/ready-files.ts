/**
 * Files that were opened because somebody is about to read them (`Remote.expect`): he then waits neither for the walk
 * nor for the thread pool. Each is used by one read, or closed after a moment: who wants to unmount the origin's file
 * system does not have to wait for us.
 *
 * What is read from one is right as long as its version is the one that was asked for, which is checked after every
 * read, as always; that its name still means it is as old as the descriptor.
 */

/** Who opens a file to read it does so at once; on a busy machine he may have to wait for a processor. */
const keptMs = 100;
/** What is opened above these is not got ready. */
const filesMax = 16;
/** Opening waits for whoever watches the file (fanotify): that must not take all threads of the pool. */
const openingMax = 2;

interface Ready<File> {
  readonly version: string;
  readonly opening: Promise<File>;
  /** Once it is open. */
  file: File | undefined;
  /** Resolves when it is open, or not ready any more: an opening may hang. */
  readonly decided: PromiseWithResolvers<void>;
  readonly timer: NodeJS.Timeout;
}

export class ReadyFiles<File extends { readonly content: Disposable }> {
  readonly #ready = new Map<string, Ready<File>>();
  #opening = 0;

  /** Runs `open`, unless that file is ready already or too many are. */
  expect(key: string, version: string, open: () => Promise<File>): void {
    if (this.#ready.has(key) || this.#ready.size >= filesMax || this.#opening >= openingMax) return;
    // First: it is in the pool's hands while the rest of this is done.
    const opening = open();
    const timer = setTimeout(() => this.#close(key), keptMs);
    timer.unref();
    const decided = Promise.withResolvers<void>();
    const ready: Ready<File> = { version, opening, file: undefined, decided, timer };
    this.#ready.set(key, ready);
    this.#opening += 1;
    void this.#whenOpen(key, ready);
  }

  async #whenOpen(key: string, ready: Ready<File>): Promise<void> {
    try {
      ready.file = await ready.opening;
    } catch {
      // Who reads it opens it himself.
      if (this.#ready.get(key) === ready) this.#close(key);
    } finally {
      this.#opening -= 1;
      ready.decided.resolve();
    }
  }

  /**
   * The file, which stays ready: not to be used after the calling turn. A promise: it is being opened, ask again when
   * that has settled, which takes no longer than it is kept, and never rejects. Undefined: there is none.
   */
  look(key: string, version: string): File | Promise<void> | undefined {
    const ready = this.#ready.get(key);
    if (ready === undefined || ready.version !== version) return undefined;
    return ready.file ?? ready.decided.promise;
  }

  /** The file, which is the caller's from now on; undefined: it has to be opened, which may say why it is not. */
  async take(key: string, version: string | undefined): Promise<File | undefined> {
    const ready = this.#ready.get(key);
    if (ready === undefined || ready.version !== version) return undefined;
    this.#forget(key, ready);
    return await ready.opening.catch(() => undefined);
  }

  closeAll(): void {
    for (const key of this.#ready.keys()) this.#close(key);
  }

  #forget(key: string, { timer, decided }: Ready<File>): void {
    clearTimeout(timer);
    decided.resolve();
    this.#ready.delete(key);
  }

  #close(key: string): void {
    const ready = this.#ready.get(key);
    if (ready === undefined) return;
    this.#forget(key, ready);
    void closeWhenOpen(ready.opening);
  }
}

/** Never throws: one that could not be opened is nobody's. */
export async function closeWhenOpen(
  opening: Promise<{ readonly content: Disposable }>,
): Promise<void> {
  try {
    (await opening).content[Symbol.dispose]();
  } catch {
    // Nothing is open.
  }
}
