/**
 * Which names a program that reads a directory has been given: a file that is replaced meanwhile gets another node
 * with a higher id, and would come again under the same name.
 */
import type { Node } from '../catalog/catalog.ts';

/** Names remembered for all open directories together; scans that need more may show a replaced file twice. */
export const scannedNamesMax = 131_072;

/** Directories that one daemon opens. Handles stay below 2^53. */
const handlesPerDaemon = 2 ** 32;
const predecessorsMax = 2 ** 20;

interface Scan {
  /** Node id by name (latin1); undefined: too many to remember. */
  ids: Map<string, number> | undefined;
}

export class DirectoryScans {
  readonly #namesMax: number;
  readonly #scans = new Map<number, Scan>();
  #names = 0;
  #lastHandle: number;

  /** `predecessors`: daemons that gave handles for the same connection, which must not be given again. */
  constructor(namesMax: number = scannedNamesMax, predecessors = 0) {
    this.#namesMax = namesMax;
    this.#lastHandle = (predecessors % predecessorsMax) * handlesPerDaemon;
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
    const scan = this.#scans.get(handle);
    if (scan === undefined) return;
    this.#forget(scan);
    this.#scans.delete(handle);
  }

  /** A scan begins, again maybe (rewinddir(3)). */
  begin(handle: number): void {
    this.close(handle);
    this.#scans.set(handle, { ids: new Map() });
  }

  /** Whether this name was given already, as another node. */
  isRepeated(handle: number, child: Node): boolean {
    const given = this.#scans.get(handle)?.ids?.get(keyOf(child));
    return given !== undefined && given !== child.id;
  }

  given(handle: number, child: Node): void {
    const scan = this.#scans.get(handle);
    if (scan?.ids === undefined) return;
    if (this.#names >= this.#namesMax) {
      this.#forget(scan);
      return;
    }
    const before = scan.ids.size;
    scan.ids.set(keyOf(child), child.id);
    this.#names += scan.ids.size - before;
  }

  #forget(scan: Scan): void {
    this.#names -= scan.ids?.size ?? 0;
    scan.ids = undefined;
  }
}

function keyOf({ name }: Node): string {
  return Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
}
