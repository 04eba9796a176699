/** Entry module of the FUSE thread (loaded by fuse/thread.ts): builds the file system from plain settings. */
import { ebbError } from '../base/errors.ts';
import { HeapKeeper } from '../base/heap-keeper.ts';
import type { Call, FileSystem } from '../fuse/filesystem.ts';
import type { FileSystemContext } from '../fuse/thread-main.ts';
import { openSqliteCatalogReader } from '../catalog/sqlite/reader.ts';
import { fuseBackingClose, fuseBackingOpen } from '../sys/ioctl.ts';
import { mapSharedFile } from '../sys/map.ts';
import { filesystemStatus } from '../sys/statfs.ts';
import { Bridge } from './bridge.ts';
import { MountFileSystem } from './filesystem.ts';
import { Generations } from './generations.ts';
import { HandleTable } from './handle-table.ts';
import type { ThreadSettings } from './messages.ts';
import { NodeView } from './node-view.ts';
import { deathsMax, RequestJournal, requestJournalBytes } from './request-journal.ts';
import { ScanLog } from './scan-log.ts';
import { WalkWatcher } from './walk-watcher.ts';

/** statfs(2) of the cache is asked at most this often. */
const statisticsMaxAgeMs = 1_000;

/** See `CreateFileSystem` in fuse/thread-main.ts. */
export function createFileSystem(workerData: unknown, context: FileSystemContext): FileSystem {
  const settings = workerData as ThreadSettings;
  const reader = openSqliteCatalogReader(settings.catalogPath);
  const nowMs = (): number => Date.now();
  const view = new NodeView(reader, settings.ttlMs, nowMs);
  const device = context.deviceFileDescriptor;
  const heap = new HeapKeeper();
  const bridge = new Bridge(context.port, (notice) => {
    fileSystem.notice(notice);
    // Comes every two seconds, whatever the kernel asks for.
    if (notice.kind === 'reportAccesses') heap.look();
  });
  const fileSystem = new MountFileSystem({
    view,
    bridge,
    answers: context.replier,
    walk: new WalkWatcher(view, bridge, nowMs),
    defaults: settings,
    generations: new Generations(settings.generationKey),
    passthrough: settings.passthrough,
    openCount: new Int32Array(settings.openCount),
    staleHandles: new Int32Array(settings.staleHandles),
    nowMs,
    openBacking: (descriptor) => fuseBackingOpen(device, descriptor),
    closeBacking: (backingId) => void fuseBackingClose(device, backingId),
    table: new HandleTable(settings.handleTable),
    scanLog: new ScanLog(settings.scanLog),
    predecessors: settings.predecessors,
    statistics: cachedStatistics(settings.cacheDirectory, view, nowMs),
    onDestroy: () => reader[Symbol.dispose](),
  });
  journalRequests(fileSystem, settings);
  // What a predecessor had read and not answered comes first, before anything that is new.
  if (settings.predecessors > 0) context.notifier.resend();
  return fileSystem;
}

function journalRequests(fileSystem: FileSystem, settings: ThreadSettings): void {
  const { requestJournal, predecessorFailed } = settings;
  if (requestJournal === undefined) return;
  const memory = mapSharedFile(requestJournal, requestJournalBytes);
  const journal = new RequestJournal(memory, predecessorFailed);
  fileSystem.admit = ({ unique, resent, nodeId }) => {
    if (journal.begin(unique, resent)) return;
    const why = `${deathsMax} daemons died with this request of node ${nodeId} in hand: EIO`;
    throw ebbError('EIO', why, { retryable: false });
  };
  fileSystem.admitted = () => journal.end();
}

type Statistics = Parameters<Call['statfs']>[0];

/** What df(1) shows: the space of the cache's file system, and how many names are known. */
function cachedStatistics(
  cacheDirectory: string,
  view: NodeView,
  nowMs: () => number,
): () => Statistics {
  let statistics: Statistics | undefined;
  let readAtMs = 0;
  return () => {
    if (statistics !== undefined && nowMs() - readAtMs < statisticsMaxAgeMs) return statistics;
    const cache = filesystemStatus(cacheDirectory);
    const known = view.reader.totals(1);
    readAtMs = nowMs();
    statistics = {
      blocks: Math.floor(cache.totalBytes / cache.blockSizeBytes),
      blocksFree: Math.floor(cache.freeBytes / cache.blockSizeBytes),
      blocksAvailable: Math.floor(cache.availableBytes / cache.blockSizeBytes),
      files: known.files + known.directories,
      filesFree: 0,
      blockSizeBytes: cache.blockSizeBytes,
      nameMaxBytes: 255,
      fragmentSizeBytes: cache.blockSizeBytes,
    };
    return statistics;
  };
}
