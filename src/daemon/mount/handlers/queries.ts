/** The questions of the control API that change nothing: status, ls, du, explain, metrics. */
import { decodeName } from '../../../base/name.ts';
import { findMountHolders } from '../../../base/mount-holders.ts';
import { NodeKind, ROOT_NODE_ID } from '../../../catalog/catalog.ts';
import type { Node } from '../../../catalog/catalog.ts';
import type { DiskUsage, Explanation, FileInfo, MountStatus } from '../../api.ts';
import { releaseText, stateSummary } from '../../control/explain.ts';
import type { DuRequest, LsRequest } from '../../control/handlers.ts';
import { counter, gauge } from '../../control/open-metrics.ts';
import type { MetricFamily } from '../../control/open-metrics.ts';
import { rangesText } from '../../control/recall-views.ts';
import { pages } from '../../pages.ts';
import type { DaemonParts } from '../parts.ts';
import type { ContentFile } from '../../../tree/content.ts';
import { tokenMetric, tokenStatus } from '../../control/token-views.ts';
import { factsOf, fileInfo } from './facts.ts';

export class Queries {
  readonly #parts: DaemonParts;

  constructor(parts: DaemonParts) {
    this.#parts = parts;
  }

  status(): MountStatus {
    const { configuration, run, catalog, recall, mount, tokens, namespace, logbook } = this.#parts;
    const totals = catalog.totals(ROOT_NODE_ID);
    return {
      kind: 'mount',
      mountPoint: run.mountPoint,
      remote: run.remote,
      cacheDirectory: run.cacheDirectory,
      pid: process.pid,
      supervisorPid: run.pid,
      restarts: this.#parts.restarts,
      version: this.#parts.version,
      startedAtMs: this.#parts.startedAtMs,
      passthrough: mount.passthrough,
      privileged: mount.privileged,
      files: totals.files,
      directories: totals.directories,
      remoteBytes: totals.remoteBytes,
      residentBytes: totals.residentBytes,
      cacheLimitBytes: configuration.cacheSizeBytes ?? null,
      minFreeBytes: configuration.minFreeBytes ?? null,
      openFiles: mount.openFiles(),
      handlesRefused: mount.handlesRefused(),
      ...tokenStatus(tokens),
      recallsInFlight: recall.totals().inFlight,
      recalledBytes: this.#parts.recallViews.recalledBytes(),
      remoteReachable: namespace.remoteReachable,
      lastError: logbook.lastError,
    };
  }

  async *ls(request: LsRequest, signal: AbortSignal): AsyncGenerator<FileInfo> {
    const { paths, facts } = this.#parts;
    if (request.recursive) return yield* this.#below(request, signal);
    const start = await paths.find(request.path, signal);
    const info = async (path: string, node: Node): Promise<FileInfo> =>
      fileInfo(path, await this.#exact(node, signal), facts);
    if (start.kind !== NodeKind.directory || request.self) {
      yield await info(request.path, start);
      return;
    }
    const prefix = request.path === '' ? '' : `${request.path}/`;
    for (const node of await paths.children(start, signal)) {
      yield await info(prefix + decodeName(node.name), node);
    }
  }

  /** As far as it is known: no file is asked for its size, and only `deep` lists directories. */
  async *#below({ path, deep }: LsRequest, signal: AbortSignal): AsyncGenerator<FileInfo> {
    const { paths, facts } = this.#parts;
    const start = await (deep ? paths.find(path, signal) : paths.findKnown(path, signal));
    if (start.kind !== NodeKind.directory) return yield fileInfo(path, start, facts);
    for await (const below of paths.below(start, path, signal, deep ? 'due' : 'never')) {
      yield fileInfo(below.path, below.node, facts);
    }
  }

  /** Sizes are shown only when they are right; a failure to learn one leaves it unknown (-1). */
  async #exact(node: Node, signal: AbortSignal): Promise<Node> {
    if (node.kind !== NodeKind.file || node.exact) return node;
    try {
      return await this.#parts.preparer.resolve(node.id, signal);
    } catch {
      signal.throwIfAborted();
      return node;
    }
  }

  async du({ path, deep }: DuRequest, signal: AbortSignal): Promise<DiskUsage> {
    const { paths, catalog, facts } = this.#parts;
    const node = await (deep ? paths.find(path, signal) : paths.findKnown(path, signal));
    if (node.kind === NodeKind.directory) {
      if (deep) await paths.listBelow(node, path, signal);
      // A disk that is full is no reason not to say what is known.
      await this.#parts.settle().catch(() => undefined);
      const { files, directories, remoteBytes, residentBytes } = catalog.totals(node.id);
      // The root's sum is that of the whole cache: what has no name any more is below no directory.
      const namelessBytes = node.id === ROOT_NODE_ID ? this.#orphanBytes() : 0;
      const resident = residentBytes - namelessBytes;
      const incomplete = catalog.lacksFacts(node.id);
      return { path, files, directories, remoteBytes, residentBytes: resident, incomplete };
    }
    const { residentBytes } = factsOf(node, facts);
    return {
      path,
      files: 1,
      directories: 0,
      remoteBytes: Math.max(0, node.sizeBytes),
      residentBytes,
      incomplete: node.kind === NodeKind.file && node.sizeBytes < 0,
    };
  }

  #orphanBytes(): number {
    const { catalog } = this.#parts;
    const orphans = pages(
      (afterId, rowsMax) => catalog.orphans(afterId, rowsMax),
      ({ id }) => id,
    );
    let bytes = 0;
    for (const page of orphans) for (const { residentBytes } of page) bytes += residentBytes;
    return bytes;
  }

  async explain(path: string, signal: AbortSignal): Promise<Explanation> {
    const { paths, facts, recall, readFailures, namespace, releaser } = this.#parts;
    const node = await this.#exact(await paths.find(path, signal), signal);
    const { state, residentBytes, content } = factsOf(node, facts);
    // What is all here by now can be read, whatever failed before.
    const failure = state === 'DUL' ? undefined : readFailures.get(node.id);
    const rows: [string, string][] = [
      ['remote key', path],
      ['size', node.sizeBytes < 0 ? 'unknown until fetched' : `${node.sizeBytes} bytes`],
      ['version', node.version ?? 'not asked yet'],
      [
        'last confirmed',
        node.checkedAtMs === 0 ? 'never' : new Date(node.checkedAtMs).toISOString(),
      ],
    ];
    if (node.kind === NodeKind.file) {
      rows.push(['resident', `${residentBytes} bytes in ${rangesText(this.#loaded(node))}`]);
      rows.push(['pinned', content?.pinned === true ? 'yes: never released' : 'no']);
      rows.push(['recall', recall.isBusy(node.id) ? 'under way' : 'none']);
      rows.push(['open', await this.#openText(path, node)]);
      if (residentBytes > 0) rows.push(['release', await releaseText(releaser, node.id, signal)]);
    }
    if (failure !== undefined) rows.push(['last failure', failure]);
    if (!namespace.remoteReachable)
      rows.push(['remote', 'cannot be reached now; known names are served']);
    return {
      path,
      state: failure === undefined ? state : 'ERR',
      summary: this.#summary(node, state, failure),
      facts: rows,
    };
  }

  /** How often programs have it open, and as far as /proc tells, which. */
  async #openText(path: string, node: Node): Promise<string> {
    const count = await this.#parts.server.openCount(node.id);
    if (count === 0) return 'by nobody';
    const file = `${this.#parts.run.mountPoint}/${path}`;
    const holders = await findMountHolders(file);
    const pids = holders.map(({ pid, command }) => `pid ${pid} (${command})`);
    const times = count === 1 ? 'once' : `${count} times`;
    return pids.length === 0 ? times : `${times}, by ${pids.join(', ')}`;
  }

  #loaded(node: Node): ContentFile | undefined {
    return this.#parts.facts.loadedContent(node.id) ?? this.#parts.storedContent(node.id);
  }

  #summary(node: Node, state: Explanation['state'], failure: string | undefined): string {
    if (node.kind === NodeKind.directory) return 'A directory; its names come from the remote.';
    if (node.kind === NodeKind.symlink) return 'A symbolic link; it has no content of its own.';
    return stateSummary(state, failure, node.sizeBytes);
  }

  metrics(): MetricFamily[] {
    const status = this.status();
    return [
      gauge('ebb_files', 'Files known.', status.files),
      gauge('ebb_directories', 'Directories known.', status.directories),
      gauge('ebb_remote_bytes', 'Bytes of all known files.', status.remoteBytes),
      gauge('ebb_resident_bytes', 'Bytes that are local.', status.residentBytes),
      tokenMetric(this.#parts.tokens),
      counter('ebb_handles_refused', 'File handles that meant nothing.', status.handlesRefused),
      gauge('ebb_remote_reachable', '1 while the remote answers.', status.remoteReachable ? 1 : 0),
      ...this.#parts.recallViews.metrics(),
    ];
  }
}
