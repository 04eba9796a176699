/** How a daemon recalls, by its configuration and by what its remote is. */
import type { RecallLimits } from '../recall/limits.ts';
import type { Remote } from '../remote/remote.ts';
import type { Configuration } from './options.ts';

const MiB = 1024 * 1024;

/**
 * Of a directory nothing is gained by many requests under way; each piece is one read(2) and one write(2), and takes
 * turns of the thread pool. docs/decisions/0027-directories-are-read-in-large-pieces.md.
 */
const directoryLimits: Partial<RecallLimits> = {
  bufferBytes: 2 * MiB,
  rangeMinBytes: 2 * MiB,
  bytesInFlightMax: 32 * MiB,
};

type Limited = Pick<Configuration, 'deadlineMs' | 'connections' | 'readAheadMaxBytes'>;

/** Of a mount. */
export function recallLimits(
  configuration: Limited,
  remote: Pick<Remote, 'kind'>,
): Partial<RecallLimits> {
  return {
    deadlineMs: configuration.deadlineMs,
    parallelRequestsMax: configuration.connections,
    readAheadMaxBytes: configuration.readAheadMaxBytes,
    ...(remote.kind === 'dir' ? directoryLimits : {}),
  };
}

/**
 * Of a tree: half as many writes, each of which costs its main thread some 0.15 ms, and that is what a cold read waits
 * for. docs/decisions/0041-cold-reads-take-fewer-turns.md.
 */
export function treeRecallLimits(
  configuration: Limited,
  remote: Pick<Remote, 'kind'>,
): Partial<RecallLimits> {
  return { ...recallLimits(configuration, remote), bufferBytes: 2 * MiB };
}
