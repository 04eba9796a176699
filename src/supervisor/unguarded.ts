/**
 * Files that were opened while nobody guarded the tree: supervisor and daemon had been killed together, and nobody kept
 * their descriptors. The kernel decides when a file is opened whether its uses are asked about (Linux 6.18,
 * file_set_fsnotify_mode_from_watchers()), so no event ever tells of these, and what is not here would be read as it is
 * for as long as they are open. They are brought here whole.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { processIds } from '../base/processes.ts';
import type { Callbacks } from './service.ts';
import { descriptorsOn, fileTablesOf } from './reachability.ts';

/** Opened at a time. */
const openMax = 64;

/**
 * By opening them once more, through the mount that nobody sees any more: that is answered when all of a file is here
 * (native/layers.ts). In processes of their own, because opening waits for the daemon, which this one replaces.
 */
const openEach = 'for file; do : < "$file" & done; wait';

/**
 * `mountId`: of the mount that was taken off, and that only who has files of it open can reach. The tree must be
 * guarded and served. Never rejects. What was mapped and closed is not found.
 */
export async function bringUnguarded(mountId: number, log: Callbacks['log']): Promise<void> {
  try {
    const files = await filesOpenOn(mountId);
    if (files.length === 0) return;
    log('warn', `${files.length} files are open since nobody guarded the tree: they come whole`);
    for (let first = 0; first < files.length; first += openMax) {
      const words = ['-c', openEach, 'sh', ...files.slice(first, first + openMax)];
      await once(spawn('/bin/sh', words, { stdio: 'ignore', cwd: '/' }), 'exit');
    }
  } catch (error) {
    log('error', `files that are open since nobody guarded the tree: ${String(error)}`);
  }
}

/** Paths in /proc; each file once. */
async function filesOpenOn(mountId: number): Promise<string[]> {
  const found = new Map<string, string>();
  for (const pid of await processIds()) {
    for await (const directory of fileTablesOf(pid)) {
      for await (const descriptor of descriptorsOn(directory, mountId)) {
        const path = `${directory}/fd/${descriptor}`;
        const facts = await stat(path, { bigint: true }).catch(() => undefined);
        if (facts?.isFile() === true) found.set(`${facts.dev}:${facts.ino}`, path);
      }
    }
  }
  return [...found.values()];
}
