/**
 * Parts of a remote image in memory, up to a limit; what is missing is fetched in ranges. Parsing asks for few places
 * again and again, content is read once and in order: the first is kept, the second is fetched ahead.
 */
import type { DeviceRange } from '../../ext4/block-device.ts';

export interface BlockStoreOptions {
  readonly sizeBytes: number;
  /** Fills the buffer with the bytes from an offset on. Called several times at once. */
  readonly fetch: (offsetBytes: number, into: Uint8Array) => Promise<void>;
  /** Default 64 MiB. */
  readonly cacheMaxBytes?: number;
}

const pageBytes = 64 * 1024;
const cacheDefaultMaxBytes = 64 * 1024 * 1024;
const requestMaxBytes = 1024 * 1024;
/** What is fetched before it is asked for, at any time. */
const aheadMaxBytes = 8 * 1024 * 1024;
/** Reads of this size, one behind the other, are content: fetched ahead by a window. */
const streamReadMinBytes = 256 * 1024;
const streamWindowBytes = 4 * 1024 * 1024;

type Page = Uint8Array | Promise<Uint8Array>;

export class BlockStore {
  readonly #sizeBytes: number;
  readonly #fetch: BlockStoreOptions['fetch'];
  readonly #pagesMax: number;
  /** The one used last comes last. */
  readonly #pages = new Map<number, Page>();
  #aheadBytes = 0;
  #streamEnd = -1;

  constructor({ sizeBytes, fetch, cacheMaxBytes = cacheDefaultMaxBytes }: BlockStoreOptions) {
    this.#sizeBytes = sizeBytes;
    this.#fetch = fetch;
    this.#pagesMax = Math.max(
      2 * (requestMaxBytes / pageBytes),
      Math.floor(cacheMaxBytes / pageBytes),
    );
  }

  /**
   * Fills the buffer. The range lies inside of the image: the caller's promise. Rejects with what `fetch` says, and
   * leaves the buffer alone then, also later.
   */
  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    const endBytes = offsetBytes + into.byteLength;
    const pages = [...pagesOf(offsetBytes, endBytes)];
    // Held before anything is fetched: making room may drop what is here, never what is on its way.
    const here = pages.map((page) => this.#touch(page));
    this.#load(offsetBytes, endBytes);
    const wanted = pages.map(async (page, index) => here[index] ?? this.#pages.get(page));
    if (into.byteLength >= streamReadMinBytes) {
      if (offsetBytes === this.#streamEnd) {
        this.prefetch([{ offsetBytes: endBytes, sizeBytes: streamWindowBytes }]);
      }
      this.#streamEnd = endBytes;
    }
    // Nothing is copied before all are here: who is refused one of them has the buffer for something else then.
    const held = await Promise.all(wanted);
    pages.forEach((page, index) => copyPage(held[index], page, offsetBytes, into));
  }

  /** Begins to fetch, as far as the limits allow. Failures are forgotten: who needs it asks again. */
  prefetch(ranges: readonly DeviceRange[]): void {
    for (const { offsetBytes, sizeBytes } of ranges) {
      const room = aheadMaxBytes - this.#aheadBytes;
      const end = Math.min(offsetBytes + Math.min(sizeBytes, room), this.#sizeBytes);
      if (offsetBytes >= 0 && end > offsetBytes) this.#load(offsetBytes, end);
    }
  }

  /** The page, if it is here or on its way; it is the last one to go now. */
  #touch(page: number): Page | undefined {
    const held = this.#pages.get(page);
    if (held === undefined) return undefined;
    this.#pages.delete(page);
    this.#pages.set(page, held);
    return held;
  }

  /** Starts requests for the pages of a range that are neither here nor on their way. */
  #load(offsetBytes: number, endBytes: number): void {
    let run: number[] = [];
    const flush = (): void => {
      if (run.length > 0) this.#request(run);
      run = [];
    };
    for (const page of pagesOf(offsetBytes, endBytes)) {
      if (this.#pages.has(page)) flush();
      else run.push(page);
      if (run.length * pageBytes >= requestMaxBytes) flush();
    }
    flush();
  }

  #request(pages: readonly number[]): void {
    const start = (pages[0] ?? 0) * pageBytes;
    const size = Math.min(pages.length * pageBytes, this.#sizeBytes - start);
    const bytes = new Uint8Array(size);
    this.#aheadBytes += size;
    const fetched = this.#fetch(start, bytes).finally(() => {
      this.#aheadBytes -= size;
    });
    pages.forEach((page, index) => {
      const own = fetched.then(() => bytes.slice(index * pageBytes, (index + 1) * pageBytes));
      own.then(
        (held) => {
          if (this.#pages.get(page) === own) this.#pages.set(page, held);
        },
        () => {
          if (this.#pages.get(page) === own) this.#pages.delete(page);
        },
      );
      this.#pages.set(page, own);
    });
    this.#evict();
  }

  #evict(): void {
    for (const [page, held] of this.#pages) {
      if (this.#pages.size <= this.#pagesMax) return;
      if (held instanceof Uint8Array) this.#pages.delete(page);
    }
  }
}

/** Copies what a page has of a range that begins at `offsetBytes`. */
function copyPage(
  bytes: Uint8Array | undefined,
  page: number,
  offsetBytes: number,
  into: Uint8Array,
): void {
  if (bytes === undefined) throw new Error('a page was not asked for');
  const start = page * pageBytes;
  const from = Math.max(offsetBytes, start);
  const to = Math.min(offsetBytes + into.byteLength, start + bytes.byteLength);
  into.set(bytes.subarray(from - start, to - start), from - offsetBytes);
}

function* pagesOf(offsetBytes: number, endBytes: number): Generator<number> {
  for (let page = Math.floor(offsetBytes / pageBytes); page * pageBytes < endBytes; page += 1) {
    yield page;
  }
}
