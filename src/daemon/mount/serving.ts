/** What answers a mount's questions, put together: recalls, whole fetches, prefetches, and the server before them. */
import { Errno } from '../../base/errno.ts';
import { toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { Clock } from '../../base/clock.ts';
import { deviceTransport } from '../../fuse/device.ts';
import { Replier } from '../../fuse/replier.ts';
import type { FuseThreads } from '../../fuse/thread.ts';
import { LookupAnswers } from '../../mount/lookup-answers.ts';
import type { LookupSettings } from '../../mount/lookup-answers.ts';
import { MountServer } from '../../mount/server.ts';
import { RecallEngine } from '../../recall/engine.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import { Preparer } from '../../recall/namespace/prepare.ts';
import { WholeFetch } from '../../recall/namespace/whole-fetch.ts';
import type { Reserve } from '../../recall/recall.ts';
import type { Remote } from '../../remote/remote.ts';
import { RecallViews } from '../control/recall-views.ts';
import type { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';
import { recallLimits } from '../recall-limits.ts';
import type { Teardown } from '../teardown.ts';
import type { Contents } from './contents.ts';
import { Prefetcher } from './prefetcher.ts';

/** The largest request of the kernel. */
export const requestBytesMax = 1024 * 1024;

export interface ServingOptions {
  readonly configuration: Pick<Configuration, 'deadlineMs' | 'connections' | 'readAheadMaxBytes'>;
  readonly clock: Clock;
  readonly remote: Remote;
  readonly contents: Contents;
  readonly namespace: Namespace;
  readonly spoolDirectory: string;
  /** What the FUSE thread is started with. */
  readonly settings: LookupSettings;
  readonly deviceFileDescriptor: number;
  /** The thread that the server speaks to; asked for with each message. */
  readonly threads: () => Pick<FuseThreads, 'post' | 'postQuietly'>;
  /** As in `RecallEngineOptions`. */
  readonly reserve: Reserve;
  readonly onReadEnded: (nodeId: number, error: EbbError | undefined) => void;
  readonly logbook: Logbook;
  /** Gets what has to be ended. */
  readonly teardown: Teardown;
}

export interface Serving {
  readonly preparer: Preparer;
  readonly recall: RecallEngine;
  readonly server: MountServer;
  /** Whether bytes are on their way into this content. */
  readonly isBusy: (contentId: number) => boolean;
  readonly recallViews: RecallViews;
}

export function makeServing(options: ServingOptions): Serving {
  const { configuration, clock, remote, contents, namespace, logbook, teardown, threads } = options;
  let wholeFetchedBytes = 0;
  const wholeFetch = new WholeFetch({
    namespace,
    remote,
    spoolDirectory: options.spoolDirectory,
    stallMaxMs: configuration.deadlineMs,
    contentOf: (node, key) => contents.contentOf(node, key),
    discard: (id) => contents.discardUnrecorded(id),
    reserve: (bytes) => options.reserve(bytes, 'demand'),
    onFetched: ({ nodeId, key, bytes, requester }) => {
      wholeFetchedBytes += bytes;
      if (requester === undefined) return;
      recallViews.began(requester);
      recall.credit(requester, nodeId, key, bytes);
    },
  });
  teardown.add('ending whole fetches', () => wholeFetch.close());
  const preparer = new Preparer(namespace, wholeFetch, contents);
  const recall: RecallEngine = new RecallEngine({
    remote,
    clock,
    limits: recallLimits(configuration, remote),
    reserve: options.reserve,
    onStale: (file) => void namespace.revalidate(file.id, undefined, true).catch(() => undefined),
    onEvent: (event) => {
      if (event.kind === 'started') recallViews.began(event.flight.requester);
      if (event.kind !== 'failed') return;
      const { key, offsetBytes, lengthBytes } = event.flight;
      const { code, message } = event.error ?? { code: 'EIO', message: 'unknown' };
      logbook.trouble(`failed recalls, ${code}`, `recall of ${key} failed: ${message}`, {
        offsetBytes,
        lengthBytes,
      });
    },
  });
  const recallViews = new RecallViews(recall, clock, () => wholeFetchedBytes);
  teardown.add('ending recalls', () => recall.close());
  const prefetcher = new Prefetcher({
    namespace,
    preparer,
    wholeFetch,
    recall,
    catalog: contents.catalog,
    requestsMax: configuration.connections,
    reserve: options.reserve,
    offer: (prepared) => server.offer(prepared),
  });
  teardown.add('ending prefetches', () => prefetcher.close());
  const replier = new Replier(deviceTransport(options.deviceFileDescriptor), requestBytesMax);
  const lookups = new LookupAnswers(contents.catalog, options.settings, () => clock.nowMs());
  const server: MountServer = new MountServer({
    post: (message) => threads().post(message),
    postQuietly: (message) => threads().postQuietly(message),
    namespace,
    preparer,
    recall,
    contentOf: (nodeId) => contents.get(nodeId),
    preparedOf: (nodeId) => {
      const node = contents.catalog.node(nodeId);
      const file = contents.get(nodeId);
      return node === undefined || file === undefined ? undefined : { node, file };
    },
    openLocal: ({ node, file }) => contents.openLocal(node, file.key),
    answers: {
      error: (call, errno) => replier.error(call, errno),
      dataFromContent: (call, file, offset, sizeBytes) => {
        const content = contents.get(file.id);
        // Made anew meanwhile: what is vouched for is not in this one.
        if (content !== file) return replier.error(call, Errno.ESTALE);
        using use = content.useDescriptor();
        return replier.dataFromFile(call, use.fd, offset, sizeBytes, sizeBytes);
      },
    },
    answerLookup: (call, node) => lookups.answer(replier, call, node),
    onAccesses: (accesses) => contents.catalog.touch(new Map(accesses)),
    onPrefetch: (message) => prefetcher.take(message),
    onReadEnded: options.onReadEnded,
    onProblem: (error) => logbook.log('error', `an answer was lost: ${toEbbError(error).message}`),
  });
  return {
    preparer,
    recall,
    server,
    isBusy: (id) => recall.isBusy(id) || wholeFetch.isPouring(id),
    recallViews,
  };
}
