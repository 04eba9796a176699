/**
 * Which mode an OPEN gets. Pure state machine, one per inode.
 *
 * The kernel does not let cached and passthrough opens of one inode live together: the second kind fails with EIO
 * (measured on 6.18; fs/fuse/iomode.c). So an inode is in one mode until its last open of that mode is gone. A
 * resident file that somebody still reads in cached mode stays cached; the next open after the last close passes
 * through. All passthrough opens of an inode share one backing id.
 *
 * `resident` means all is here and that is in the durable record: what the disk may yet fail to take must not be read
 * past us. When it is taken back all the same, an inode that is in passthrough mode cannot be opened any more.
 *
 * The kernel gives up the mode before it sends RELEASE, so counting RELEASEs is safe; an OPEN whose answer the
 * kernel no longer wanted (ENOENT on write) must be un-counted.
 */

export type OpenMode = 'cached' | 'passthrough';

export interface OpenCounts {
  readonly cached: number;
  readonly passthrough: number;
}

/**
 * The mode for one more open. `resident`: all content is here, durably; `allowed`: passthrough works on this mount.
 * Undefined: there is none, until what is open was closed.
 */
export function chooseMode(
  counts: OpenCounts,
  resident: boolean,
  allowed: boolean,
): OpenMode | undefined {
  if (counts.passthrough > 0) return resident ? 'passthrough' : undefined;
  if (counts.cached > 0 || !resident || !allowed) return 'cached';
  return 'passthrough';
}

export function afterOpen(counts: OpenCounts, mode: OpenMode): OpenCounts {
  return { ...counts, [mode]: counts[mode] + 1 };
}

/** Throws RangeError when nothing of that mode was open: our own mistake. */
export function afterRelease(counts: OpenCounts, mode: OpenMode): OpenCounts {
  if (counts[mode] === 0) throw new RangeError(`release of a ${mode} open that was not counted`);
  return { ...counts, [mode]: counts[mode] - 1 };
}

export const noOpens: OpenCounts = { cached: 0, passthrough: 0 };
