/**
 * Opening and reading a small piece of a local file in the thread that asks. A turn of the thread pool costs two
 * changes of threads, on a busy machine several times the work itself, and the first byte waited for two such turns.
 *
 * Nothing here waits for a disk. Somebody who watches the file may hold up who opens it: another tree of Ebb's, whose
 * stubs are left to the pool, or a virus scanner. Where that took long once the pool is used from then on.
 */
import { openSync } from 'node:fs';
import { treeMarkName } from '../../base/tree-mark.ts';
import { decodeName } from '../../base/name.ts';
import { preadCached } from '../../sys/io.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { getXattr } from '../../sys/xattr.ts';
import { Descriptor, contentFlags } from './walk.ts';
import type { Found } from './walk.ts';

/** Larger ranges go to the pool, whose threads work side by side. */
const rangeMaxBytes = 256 * 1024;
/** A machine may be busy for a moment; it is not for so long. */
const patienceMs = 250;

export class AtOnce {
  /** The marks of other trees can be seen, and nobody made us wait so far. */
  #trusted = hasCapability(Capability.sysAdmin);

  /** The content of a found file on a local file system; undefined: leave it to the pool. Throws as open(2). */
  open(object: Found, lengthBytes: number | undefined): Descriptor | undefined {
    if (!this.#trusted || lengthBytes === undefined || lengthBytes > rangeMaxBytes)
      return undefined;
    if (isStub(object)) return undefined;
    return this.#timed(() => Descriptor.own(openSync(object.handle.path, contentFlags)));
  }

  /** Fills the start of `into` from the page cache. 0: leave it to the pool. */
  read(content: Descriptor, into: Uint8Array, offsetBytes: number): number {
    if (!this.#trusted) return 0;
    return Math.max(
      0,
      this.#timed(() => preadCached(content.fd, into, offsetBytes)),
    );
  }

  #timed<Result>(work: () => Result): Result {
    const startedMs = performance.now();
    try {
      return work();
    } finally {
      if (performance.now() - startedMs > patienceMs) this.#trusted = false;
    }
  }
}

function isStub(object: Found): boolean {
  try {
    return getXattr(decodeName(object.path), treeMarkName) !== undefined;
  } catch {
    // No such attributes there, or it has gone: opening says more.
    return false;
  }
}
