/**
 * READDIR and READDIRPLUS from the catalog. The cookie of an entry is its node id plus two (1 and 2 are `.` and
 * `..`): ids only grow and are never reused, so a scan goes on rightly while the directory changes. What was replaced
 * meanwhile has another id: the scan's own memory tells it (directory-scans.ts).
 */
import { NodeKind } from '../catalog/catalog.ts';
import type { Node } from '../catalog/catalog.ts';
import { FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE } from '../fuse/constants.ts';
import type { Call } from '../fuse/filesystem.ts';
import { entryOf, typeOf } from './attributes.ts';
import type { AttributeDefaults } from './attributes.ts';
import { DirectoryScans } from './directory-scans.ts';
import type { Generations } from './generations.ts';
import type { ListingReader } from './listing-readers.ts';
import type { NodeView } from './node-view.ts';

/** Rows read from the catalog at a time; one READDIR answer holds about as many. */
const pageRows = 128;
const dotCookie = 1;
const dotDotCookie = 2;
const idToCookie = 2;
/** Directories whose listing the kernel holds; beyond it the kernel reads again, that is all. */
const kernelCachedMax = 65_536;

const dot = Uint8Array.of(0x2e);
const dotDot = Uint8Array.of(0x2e, 0x2e);
const directoryType = 0o040000;

export class DirectoryReader {
  readonly #view: NodeView;
  readonly #defaults: AttributeDefaults;
  readonly #generations: Generations;
  /** Directories unchanged since the kernel began to cache them. */
  readonly #kernelCached = new Set<number>();
  readonly #scans: DirectoryScans;

  constructor(
    view: NodeView,
    defaults: AttributeDefaults,
    generations: Generations,
    scans = new DirectoryScans(),
  ) {
    this.#view = view;
    this.#defaults = defaults;
    this.#generations = generations;
    this.#scans = scans;
  }

  /** The kernel keeps the names of a directory until `changed`. */
  openFlags(directoryId: number): number {
    if (this.#kernelCached.has(directoryId)) return FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE;
    if (this.#kernelCached.size < kernelCachedMax) this.#kernelCached.add(directoryId);
    return FOPEN_CACHE_DIR;
  }

  /** A handle for a directory that was opened; `close` it. */
  open(): number {
    return this.#scans.open();
  }

  close(handle: number): void {
    this.#scans.close(handle);
  }

  changed(directoryId: number): void {
    this.#kernelCached.delete(directoryId);
  }

  /** `reader`: who goes through a listing that was fresh when it began. */
  fill(
    call: Call,
    directoryId: number,
    handle: number,
    offset: number,
    plus: boolean,
    reader?: ListingReader,
  ): void {
    this.#put(call, directoryId, handle, offset, plus, reader);
    this.#scans.flush();
  }

  #put(
    call: Call,
    directoryId: number,
    handle: number,
    offset: number,
    plus: boolean,
    reader: ListingReader | undefined,
  ): void {
    if (offset === 0) this.#scans.begin(handle);
    const out = call.directory();
    const parent = this.#view.node(directoryId);
    const put = (name: Uint8Array, ino: number, cookie: number): boolean =>
      plus
        ? out.addPlus(name, ino, directoryType, cookie, undefined)
        : out.add(name, ino, directoryType, cookie);
    if (offset < dotCookie && !put(dot, directoryId, dotCookie)) return;
    if (offset < dotDotCookie && !put(dotDot, parent?.parentId || directoryId, dotDotCookie))
      return;
    let afterId = Math.max(0, offset - idToCookie);
    this.#scans.goOn(handle, afterId);
    for (;;) {
      const children = this.#view.reader.children(directoryId, afterId, pageRows);
      for (const child of children) {
        afterId = child.id;
        if (this.#scans.isRepeated(handle, child)) continue;
        const cookie = child.id + idToCookie;
        const entry = plus ? this.#entry(child, parent, reader) : undefined;
        const fits = plus
          ? out.addPlus(child.name, child.id, typeOf(child), cookie, entry)
          : out.add(child.name, child.id, typeOf(child), cookie);
        if (!fits) return;
        reader?.gave(child.id);
        this.#scans.given(handle, child);
      }
      if (children.length < pageRows) return;
    }
  }

  /** Attributes to give along with the name; none for a file whose facts are not exact yet. */
  #entry(
    child: Node,
    parent: Node | undefined,
    reader: ListingReader | undefined,
  ): ReturnType<typeof entryOf> | undefined {
    if (child.kind === NodeKind.file && !child.exact) return undefined;
    const trustMs = reader?.mayBeGiven(child.id) === true ? reader.trustMs : 0;
    const timeoutMs = Math.max(trustMs, this.#view.entryTimeoutMs(child, parent));
    return entryOf(child, this.#generations.of(child.id), this.#defaults, timeoutMs);
  }
}
