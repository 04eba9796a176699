/**
 * A directory on a web server as a `Remote`. Names come from the server's own listings (listing/), attributes from
 * HEAD, bytes from ranged GETs. What only experience can tell of a server (does it honour ranges, does it understand
 * If-Match) is learnt from its answers and forgotten with the object.
 */
import { systemClock } from '../../base/clock.ts';
import { HttpClient } from './http-client.ts';
import { LaneTransport } from './lane/lane-transport.ts';
import { listDirectory } from './list.ts';
import { httpTarget } from './options.ts';
import type { HttpRemoteOptions, HttpTarget } from './options.ts';
import { readRange } from './read.ts';
import type {
  CallOptions,
  ListingBatch,
  ObjectAttributes,
  RangeSink,
  ReadOptions,
  Remote,
} from '../remote.ts';
import { ServerTraits } from './server-traits.ts';
import { statObject } from './stat.ts';
import type { RequestContext } from './stat.ts';
import { UndiciTransport } from './undici-transport.ts';

/**
 * Opens an HTTP or HTTPS remote. Does not talk to the server yet. Throws EINVAL (options) or what reading a
 * certificate file gave.
 */
export async function openHttpRemote(options: HttpRemoteOptions): Promise<Remote> {
  const target = await httpTarget(options);
  const { limits, tls, proxy } = target;
  const { origin } = target;
  const own = new UndiciTransport({ ...limits, tls, proxy });
  const noSecrets = { ...tls, clientCertificate: undefined, clientKey: undefined, insecure: false };
  const foreign = new UndiciTransport({ ...limits, tls: noSecrets, proxy });
  const usesLane = (options.fastLane ?? true) && proxy === undefined;
  const ranges = usesLane ? new LaneTransport({ ...limits, origin, tls, fallback: own }) : own;
  return new HttpRemote(target, new HttpClient(target, { own, ranges, foreign }));
}

class HttpRemote implements Remote {
  readonly kind = 'http';
  readonly displayName: string;
  readonly #context: RequestContext;

  constructor(target: HttpTarget, client: HttpClient) {
    this.displayName = target.displayName;
    this.#context = {
      client,
      basePath: target.basePath,
      traits: new ServerTraits(() => systemClock.monotonicMs()),
      nowMs: () => systemClock.nowMs(),
    };
  }

  get supportsRanges(): boolean {
    return this.#context.traits.supportsRanges;
  }

  list(key: string, options: CallOptions): AsyncIterable<ListingBatch> {
    return listDirectory(this.#context, key, options.signal);
  }

  async stat(key: string, options: CallOptions): Promise<ObjectAttributes> {
    return statObject(this.#context, key, options.signal);
  }

  async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    await readRange(this.#context, key, sink, options);
  }

  async close(): Promise<void> {
    await this.#context.client.close();
  }
}
