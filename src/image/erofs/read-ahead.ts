/**
 * How far the kernel reads ahead in a mounted map, and with it how large the pieces are in which it keeps what it has
 * read. A mount of files has 128 KiB by default, a loop device of the same image megabytes; of what is read again at
 * random the former gave a sixth less (docs/decisions/0044-maps-read-ahead-as-disks-do.md).
 */
import { readdirSync, writeFileSync } from '../../base/node-fs.ts';

/** More brings nothing, and a page fault at random reads as much. */
const readAheadKibibytes = 256;
const directory = '/sys/class/bdi';
const prefix = 'erofs-';

/**
 * Mounts, and lets the new EROFS mount read ahead. The kernel numbers such devices as they come and tells nobody whose
 * they are: where others come at the same moment, nothing is set. Never throws of itself.
 */
export function readingAhead<Mounted>(mount: () => Mounted): Mounted {
  const before = devices();
  const mounted = mount();
  const ours = newcomer(before, devices());
  if (ours === undefined) return mounted;
  try {
    writeFileSync(`${directory}/${ours}/read_ahead_kb`, String(readAheadKibibytes));
  } catch {
    // As slow as the kernel makes it.
  }
  return mounted;
}

/** The name that was not there before, if it is one. */
export function newcomer(before: readonly string[], after: readonly string[]): string | undefined {
  const known = new Set(before);
  const [name, ...others] = after.filter((each) => !known.has(each));
  return others.length === 0 ? name : undefined;
}

function devices(): string[] {
  try {
    return readdirSync(directory).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}
