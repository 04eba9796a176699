/**
 * Reading a small piece of a local file in the thread that asks. A turn of the thread pool costs two changes of
 * threads, on a busy machine several times the work itself.
 *
 * Nothing here waits for a disk: what is not in the page cache is left to the pool. Nor for anybody who watches files:
 * another tree of Ebb's, whose stubs are left to the pool, or a virus scanner. Where one took long the pool is used
 * from then on. Opening always is the pool's: every tree on that file system has to let in who opens a file, and its
 * daemon may just be waiting for this one.
 */
import { treeMarkName } from '../../base/tree-mark.ts';
import { pread, preadCached } from '../../sys/io.ts';
import { Capability, hasCapability } from '../../sys/process.ts';
import { getXattr } from '../../sys/xattr.ts';
import type { Descriptor } from './descriptor.ts';

/** Larger ranges go to the pool, whose threads work side by side. */
const rangeMaxBytes = 256 * 1024;

export function isSmallRange(lengthBytes: number | undefined): boolean {
  return lengthBytes !== undefined && lengthBytes <= rangeMaxBytes;
}

/** A machine may be busy for a moment; it is not for so long. */
const patienceMs = 250;

export class AtOnce {
  /** The marks of other trees can be seen, and nobody made us wait so far. */
  #trusted = hasCapability(Capability.sysAdmin);

  /** Whether small ranges of an open file on a local file system may be asked of `read`. */
  mayRead(content: Descriptor): boolean {
    return this.#trusted && !isStub(content);
  }

  /**
   * Fills the start of `into` from the page cache. 0: leave it to the pool. `isInMemory`: a file of tmpfs, which knows
   * no RWF_NOWAIT and has no disk but swap; what is swapped out there is waited for as our own memory would be.
   */
  read(content: Descriptor, into: Uint8Array, offsetBytes: number, isInMemory: boolean): number {
    if (!this.#trusted) return 0;
    const startedMs = performance.now();
    const count = isInMemory
      ? pread(content.fd, into, offsetBytes)
      : preadCached(content.fd, into, offsetBytes);
    if (performance.now() - startedMs > patienceMs) this.#trusted = false;
    return Math.max(0, count);
  }
}

function isStub({ fd }: Descriptor): boolean {
  try {
    return getXattr(fd, treeMarkName) !== undefined;
  } catch {
    // No such attributes there.
    return false;
  }
}
