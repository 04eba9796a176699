/** What the kernel has cached, and the machine's own life, which other tests share. */
import { readFileSync, writeFileSync } from 'node:fs';
import { runOk } from './run.ts';

const measuresMax = 50;

/**
 * Makes the kernel forget names and inodes that nobody uses (proc_sys_vm(5)): handles have to be looked up. Of the
 * whole machine: tests beside this one lose theirs, too (`undisturbed`).
 */
export function dropNames(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '2');
}

/** Makes the kernel forget the pages of one file, through an open of this user. */
export async function dropPages(
  file: string,
  user?: { readonly uid: number; readonly gid: number },
): Promise<void> {
  await runOk('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none'], { ...user });
}

/** How often somebody has told the kernel to drop its caches. */
function drops(): string {
  const lines = readFileSync('/proc/vmstat', 'latin1').match(/^drop_(pagecache|slab) \d+$/gm);
  if (lines === null) throw new Error('/proc/vmstat does not count dropped caches');
  return lines.join();
}

/** What `measure` says of caches, while nobody on this machine drops them: else it is measured again. */
export async function undisturbed<T>(measure: () => T | Promise<T>): Promise<T> {
  for (let tries = 0; tries < measuresMax; tries += 1) {
    const before = drops();
    const measured = await measure();
    if (drops() === before) return measured;
  }
  throw new Error(`caches are dropped all the time: ${measuresMax} measurements were disturbed`);
}
