/** How a mount or a tree ends, for the verbs that ask for it: who is in the way, and when its processes are gone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning, removeRunRecord } from '../base/run-directory.ts';
import type { StopResult } from '../daemon/api.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { visible } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const exitWaitMs = 10_000;
const exitPollMs = 20;

/**
 * After its answer the service finishes its catalog, and a tree's supervisor ends: waited for so that a new one can
 * follow at once.
 */
export async function waitForExit(record: RunRecord): Promise<void> {
  for (let waitedMs = 0; isRunning(record) && waitedMs < exitWaitMs; waitedMs += exitPollMs) {
    await sleep(exitPollMs);
  }
  if (!isRunning(record)) removeRunRecord(record.mountPoint);
}

/** A line for each. */
export function warnOfHolders(holders: StopResult['holders'], terminal: Terminal): void {
  for (const { pid, command, what } of holders) {
    terminal.warn(`    pid ${pid} (${visible(command)}): ${visible(what)}`);
  }
}
