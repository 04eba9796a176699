/** The questions of the control API about a tree that change nothing: status, ls, du, explain, metrics. */
import { StubChange } from '../../../base/stub-facts.ts';
import { findMountHolders } from '../../../base/mount-holders.ts';
import type { StubRecord } from '../../../catalog/stub-catalog.ts';
import { FilesystemMagic, filesystemStatus } from '../../../sys/statfs.ts';
import type {
  BriefFileInfo,
  DiskUsage,
  Explanation,
  FileInfo,
  FileState,
  TreeStatus,
} from '../../api.ts';
import { releaseText, stateSummary } from '../../control/explain.ts';
import type { DuRequest, LsRequest } from '../../control/handlers.ts';
import { gauge } from '../../control/open-metrics.ts';
import type { MetricFamily } from '../../control/open-metrics.ts';
import { tokenMetric, tokenStatus } from '../../control/token-views.ts';
import { rangesText } from '../../control/recall-views.ts';
import { briefFileInfo, residentBytesOf, stateOf, treeFileInfo } from '../tree-facts.ts';
import type { TreeEntry } from '../tree-files.ts';
import type { TreeParts } from '../tree-parts.ts';

const changeTexts: Readonly<Record<StubRecord['change'], string>> = {
  [StubChange.clean]: 'no',
  [StubChange.intent]: 'perhaps: somebody opened it for writing',
  [StubChange.discarding]: 'perhaps: somebody opened it to empty it',
  [StubChange.dirty]: 'yes: it is your own content now',
};

export class TreeQueries {
  readonly #parts: TreeParts;

  constructor(parts: TreeParts) {
    this.#parts = parts;
  }

  status(): TreeStatus {
    const { start, configuration, catalog, recall, server, store, logbook } = this.#parts;
    const totals = catalog.totals();
    const counters = server.counters();
    return {
      kind: 'tree',
      mountPoint: configuration.tree,
      remote: this.#parts.remote.displayName,
      stateDirectory: this.#parts.stateDirectory,
      fileSystem: fileSystemOf(store.rootFd),
      pid: process.pid,
      supervisorPid: start.supervisorPid,
      restarts: start.restarts,
      version: this.#parts.version,
      startedAtMs: start.startedAtMs,
      stubs: totals.stubs,
      dirty: totals.dirty,
      complete: totals.complete,
      remoteBytes: totals.remoteBytes,
      residentBytes: totals.residentBytes,
      cacheLimitBytes: configuration.cacheSizeBytes ?? null,
      minFreeBytes: configuration.minFreeBytes ?? null,
      recallsInFlight: recall.totals().inFlight,
      recalledBytes: this.#parts.recallViews.recalledBytes(),
      waiting: counters.pending,
      events: counters.allowed + counters.denied,
      remoteReachable: this.#parts.remoteReachable(),
      lastError: logbook.lastError,
      ...tokenStatus(this.#parts.tokens),
    };
  }

  async *ls(request: LsRequest, signal: AbortSignal): AsyncGenerator<FileInfo | BriefFileInfo> {
    const { files, facts } = this.#parts;
    const start = files.entry(request.path);
    if (start.kind !== 'directory' || request.self) return yield treeFileInfo(start, facts);
    if (request.recursive && request.brief) {
      for await (const entry of files.briefBelow(request.path, signal)) {
        yield briefFileInfo(entry, facts);
      }
      return;
    }
    const entries = request.recursive
      ? files.below(request.path, signal)
      : files.children(request.path, signal);
    for await (const entry of entries) yield treeFileInfo(entry, facts);
  }

  async du({ path }: DuRequest, signal: AbortSignal): Promise<DiskUsage> {
    const { files, facts } = this.#parts;
    const sums = { files: 0, directories: 0, remoteBytes: 0, residentBytes: 0 };
    const counted = new Set<bigint>();
    const add = (entry: TreeEntry): void => {
      if (entry.kind === 'directory') sums.directories += 1;
      if (entry.kind !== 'file') return;
      sums.files += 1;
      // Hard links, as du(1) counts them.
      if (entry.status.nlink > 1 && counted.size === counted.add(entry.status.ino).size) return;
      sums.remoteBytes += entry.status.sizeBytes;
      sums.residentBytes += residentBytesOf(entry, facts);
    };
    const start = files.entry(path);
    if (start.kind !== 'directory') add(start);
    else for await (const entry of files.below(path, signal)) add(entry);
    return { path, ...sums, incomplete: false };
  }

  async explain(path: string, signal: AbortSignal): Promise<Explanation> {
    const { files, facts, readFailures } = this.#parts;
    const entry = files.entry(path);
    const { record, status } = entry;
    const state = stateOf(entry, facts);
    // What is all here by now can be read, whatever failed before.
    const failed = record === undefined || state === 'DUL' || state === 'DIR';
    const failure = failed ? undefined : readFailures.get(record.id);
    const rows: [string, string][] = [['size', `${status.sizeBytes} bytes`]];
    if (record !== undefined) rows.push(...(await this.#recordRows(record, entry, signal)));
    if (entry.kind === 'file') rows.push(['open', await this.#openText(path)]);
    if (failure !== undefined) rows.push(['last failure', failure]);
    if (!this.#parts.remoteReachable()) rows.push(['remote', 'cannot be reached now']);
    return {
      path,
      state: failure === undefined ? state : 'ERR',
      summary: summaryOf(entry, state, failure),
      facts: rows,
    };
  }

  async #recordRows(
    record: StubRecord,
    { path }: TreeEntry,
    signal: AbortSignal,
  ): Promise<[string, string][]> {
    const { facts, store, recall, releaser } = this.#parts;
    const moved = record.key === path ? '' : ' (it was renamed here)';
    const rows: [string, string][] = [
      ['remote key', `${record.key}${moved}`],
      ['version', record.version],
      ['changed here', changeTexts[record.change]],
    ];
    if (record.change === StubChange.dirty) return rows;
    const residentBytes = facts.residentBytes(record);
    rows.push(['resident', `${residentBytes} bytes in ${rangesText(store.get(record.id))}`]);
    rows.push(['pinned', record.pinned ? 'yes: never released' : 'no']);
    if (record.lost) rows.push(['remote copy', 'gone: what is here may be the last one']);
    rows.push(['recall', recall.isBusy(record.id) ? 'under way' : 'none']);
    if (residentBytes > 0) rows.push(['release', await releaseText(releaser, record.id, signal)]);
    return rows;
  }

  async #openText(path: string): Promise<string> {
    const holders = await findMountHolders(`${this.#parts.configuration.tree}/${path}`);
    if (holders.length === 0) return 'by nobody that /proc shows';
    return `by ${holders.map(({ pid, command }) => `pid ${pid} (${command})`).join(', ')}`;
  }

  metrics(): MetricFamily[] {
    const status = this.status();
    return [
      gauge('ebb_files', 'Files known.', status.stubs),
      gauge('ebb_dirty_files', 'Files that users changed.', status.dirty),
      gauge('ebb_remote_bytes', 'Bytes of all known files.', status.remoteBytes),
      gauge('ebb_resident_bytes', 'Bytes that are local.', status.residentBytes),
      gauge('ebb_remote_reachable', '1 while the remote answers.', status.remoteReachable ? 1 : 0),
      gauge('ebb_waiting_calls', 'System calls that wait for an answer.', status.waiting),
      gauge('ebb_daemon_restarts', 'Daemons that died since attaching.', status.restarts),
      ...this.#parts.recallViews.metrics(),
      ...(this.#parts.tokens === undefined ? [] : [tokenMetric(this.#parts.tokens)]),
    ];
  }
}

function fileSystemOf(fd: number): string {
  const { magic } = filesystemStatus(fd);
  return Object.entries(FilesystemMagic).find(([, known]) => known === magic)?.[0] ?? 'unknown';
}

function summaryOf(entry: TreeEntry, state: FileState, failure: string | undefined): string {
  if (entry.kind === 'directory') return 'A directory.';
  if (entry.kind === 'symlink') return 'A symbolic link; it has no content of its own.';
  if (entry.kind === 'other') return 'A special file; Ebb has nothing to do with it.';
  if (state === 'REG') return 'An ordinary file; it did not come from the remote.';
  if (state === 'DIR') {
    return 'It was changed here and is your own now; the remote has what it was before.';
  }
  return stateSummary(state, failure, entry.status.sizeBytes);
}
