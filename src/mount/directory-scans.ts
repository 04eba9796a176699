/**
 * Which names a program that reads a directory has been given: a file that is replaced meanwhile gets another node
 * with a higher id, and would come again under the same name.
 */
import type { Node } from '../catalog/catalog.ts';
import { ScanLog } from './scan-log.ts';

/** Names remembered for all open directories together; scans that need more may show a replaced file twice. */
export const scannedNamesMax = 131_072;

/** Directories that one daemon opens. Handles stay below 2^53. */
const handlesPerDaemon = 2 ** 32;
const predecessorsMax = 2 ** 20;

interface Scan {
  /** Node id by name (latin1); undefined: too many to remember. */
  ids: Map<string, number> | undefined;
  /** Of a predecessor, which may not have given all that it wrote down. */
  isInherited: boolean;
}

export interface DirectoryScansOptions {
  readonly namesMax?: number;
  /** Daemons that gave handles for the same connection, which must not be given again. */
  readonly predecessors?: number;
  /** What they gave, and for successors. Default: neither. */
  readonly log?: ScanLog;
}

export class DirectoryScans {
  readonly #namesMax: number;
  readonly #scans = new Map<number, Scan>();
  readonly #log: ScanLog;
  #names = 0;
  #lastHandle: number;

  constructor(options: DirectoryScansOptions = {}) {
    this.#namesMax = options.namesMax ?? scannedNamesMax;
    this.#lastHandle = ((options.predecessors ?? 0) % predecessorsMax) * handlesPerDaemon;
    this.#log = options.log ?? new ScanLog(undefined);
    for (const { handle, nodeId, name } of this.#log.restore()) {
      if (nodeId === 0) this.#end(handle);
      else this.#remember(this.#inherit(handle), name, nodeId);
    }
  }

  /** Names remembered now, all scans together. */
  get nameCount(): number {
    return this.#names;
  }

  /** A handle for an open directory. Costs nothing until it is read. */
  open(): number {
    this.#lastHandle += 1;
    return this.#lastHandle;
  }

  close(handle: number): void {
    if (!this.#end(handle)) return;
    if (this.#scans.size === 0) return this.#log.clear();
    this.#log.add({ handle, nodeId: 0, name: '' });
    this.flush();
  }

  /** A scan begins, again maybe (rewinddir(3)). */
  begin(handle: number): void {
    this.close(handle);
    this.#scans.set(handle, { ids: new Map(), isInherited: false });
  }

  /** It goes on: what has been given has ids up to `afterId`. */
  goOn(handle: number, afterId: number): void {
    const scan = this.#scans.get(handle);
    if (scan === undefined) {
      // A predecessor had given no name yet.
      this.#scans.set(handle, { ids: new Map(), isInherited: false });
      return;
    }
    if (!scan.isInherited) return;
    scan.isInherited = false;
    const given = [...(scan.ids ?? [])];
    const heard = given.filter(([, id]) => id <= afterId);
    if (heard.length === given.length) return;
    // The predecessor died before it answered.
    this.#end(handle);
    this.#log.add({ handle, nodeId: 0, name: '' });
    const anew: Scan = { ids: new Map(), isInherited: false };
    this.#scans.set(handle, anew);
    for (const [name, nodeId] of heard) {
      if (this.#remember(anew, name, nodeId)) this.#log.add({ handle, nodeId, name });
    }
  }

  /** Whether this name was given already, as another node. */
  isRepeated(handle: number, child: Node): boolean {
    const given = this.#scans.get(handle)?.ids?.get(keyOf(child));
    return given !== undefined && given !== child.id;
  }

  given(handle: number, child: Node): void {
    const scan = this.#scans.get(handle);
    if (scan?.ids === undefined) return;
    const name = keyOf(child);
    if (this.#remember(scan, name, child.id)) this.#log.add({ handle, nodeId: child.id, name });
  }

  /** Before the answer: what was `given` is known to successors. */
  flush(): void {
    if (this.#log.isFull) this.#writeAnew();
    this.#log.flush();
  }

  /** False: it is one too many, and nothing of this scan is remembered any more. */
  #remember(scan: Scan, name: string, nodeId: number): boolean {
    if (scan.ids === undefined) return false;
    if (this.#names >= this.#namesMax) {
      this.#forget(scan);
      return false;
    }
    const before = scan.ids.size;
    scan.ids.set(name, nodeId);
    this.#names += scan.ids.size - before;
    return true;
  }

  #inherit(handle: number): Scan {
    const scan = this.#scans.get(handle) ?? { ids: new Map(), isInherited: true };
    this.#scans.set(handle, scan);
    return scan;
  }

  #writeAnew(): void {
    this.#log.clear();
    for (const [handle, { ids }] of this.#scans) {
      for (const [name, nodeId] of ids ?? []) this.#log.add({ handle, nodeId, name });
    }
  }

  /** False: there was none. */
  #end(handle: number): boolean {
    const scan = this.#scans.get(handle);
    if (scan === undefined) return false;
    this.#forget(scan);
    return this.#scans.delete(handle);
  }

  #forget(scan: Scan): void {
    this.#names -= scan.ids?.size ?? 0;
    scan.ids = undefined;
  }
}

function keyOf({ name }: Node): string {
  return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
}
