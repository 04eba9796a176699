/**
 * An HTTP origin that serves a real directory like nginx does, and lies about it on request: every
 * fault of lying-origin/rules.ts, switched at run time, per path, for so many requests. It logs
 * what it was asked.
 *
 *     await using origin = await startLyingOrigin({ root });          // in this process
 *     await using origin = await startLyingOriginProcess({ root });   // in a process of its own
 *     await origin.addRule({ match: { path: '/file' }, fault: { kind: 'cut', afterBytes: 1000 }, times: 1 });
 *
 * Both have the same interface. Run as a program it prints one JSON line with its URLs and takes
 * rules on its control URL (lying-origin/control.ts).
 */
import net from 'node:net';
import type { Socket } from 'node:net';
import { announceReady, startChildService } from './child-service.ts';
import { serveConnection } from './lying-origin/connection.ts';
import type { RequestRecord } from './lying-origin/connection.ts';
import { OriginClient, startControl } from './lying-origin/control.ts';
import { RuleTable } from './lying-origin/rules.ts';
import type { OriginRule } from './lying-origin/rules.ts';
import { freePort } from './ports.ts';

export type { RequestRecord } from './lying-origin/connection.ts';
export type { OriginFault, OriginMatch, OriginRule } from './lying-origin/rules.ts';

/** Requests kept in the log; older ones are forgotten (the counters are not). */
const logRecordsMax = 200_000;
const startAttemptsMax = 5;

export interface OriginCounters {
  /** Requests since the log was cleared. */
  readonly requests: number;
  readonly bodyBytes: number;
  readonly connections: number;
  /** Requests under way now, and the most there ever were. */
  readonly active: number;
  readonly activeMax: number;
}

/** What a test can do with an origin, wherever it runs. */
export interface LyingOrigin extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string;
  addRule(rule: OriginRule): Promise<number>;
  removeRule(id: number): Promise<void>;
  clearRules(): Promise<void>;
  /** In the order in which the requests came. */
  log(): Promise<RequestRecord[]>;
  clearLog(): Promise<void>;
  counters(): Promise<OriginCounters>;
  /** Cuts all connections (RST). */
  dropConnections(): Promise<void>;
  /** The origin is dead: connections are cut, new ones refused. */
  stopListening(): Promise<void>;
  /** It is back on the same port. */
  listenAgain(): Promise<void>;
}

export interface LyingOriginOptions {
  /** Absolute path of the directory to serve. */
  readonly root: string;
  /** Default: a free one. */
  readonly port?: number;
}

export async function startLyingOrigin(options: LyingOriginOptions): Promise<LyingOrigin> {
  const origin = new LocalOrigin(options.root);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await origin.listen(options.port ?? (await freePort()));
      return origin;
    } catch (error) {
      // Somebody else was faster to take the one found free.
      if (options.port !== undefined || attempt === startAttemptsMax) throw error;
    }
  }
}

/** The same in a process of its own, so that it can serve a mount in this or another process. */
export async function startLyingOriginProcess(options: LyingOriginOptions): Promise<LyingOrigin> {
  const child = await startChildService<{ url: string; controlUrl: string }>(import.meta.filename, [
    options.root,
    ...(options.port === undefined ? [] : [String(options.port)]),
  ]);
  return new OriginClient(child.ready.url, child.ready.controlUrl, child);
}

class LocalOrigin implements LyingOrigin {
  readonly #root: string;
  readonly #rules = new RuleTable();
  readonly #sockets = new Set<Socket>();
  #server: net.Server | undefined;
  #port = 0;
  #records: RequestRecord[] = [];
  #requests = 0;
  #bodyBytes = 0;
  #connections = 0;
  #active = 0;
  #activeMax = 0;
  #lastId = 0;

  constructor(root: string) {
    this.#root = root;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/`;
  }

  async listen(port: number): Promise<void> {
    const server = net.createServer({ allowHalfOpen: false }, (socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host: '127.0.0.1', backlog: 1024 }, resolve);
    });
    this.#server = server;
    this.#port = (server.address() as net.AddressInfo).port;
  }

  async addRule(rule: OriginRule): Promise<number> {
    return this.#rules.add(rule);
  }

  async removeRule(id: number): Promise<void> {
    this.#rules.remove(id);
  }

  async clearRules(): Promise<void> {
    this.#rules.clear();
  }

  async log(): Promise<RequestRecord[]> {
    return this.#records.map((record) => ({ ...record }));
  }

  async clearLog(): Promise<void> {
    this.#records = [];
    this.#requests = 0;
    this.#bodyBytes = 0;
    this.#connections = 0;
    this.#activeMax = this.#active;
  }

  async counters(): Promise<OriginCounters> {
    const inFlightBytes = this.#records
      .filter((record) => record.endedAtMs === null)
      .reduce((sum, record) => sum + record.bodyBytes, 0);
    return {
      requests: this.#requests,
      bodyBytes: this.#bodyBytes + inFlightBytes,
      connections: this.#connections,
      active: this.#active,
      activeMax: this.#activeMax,
    };
  }

  async dropConnections(): Promise<void> {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stopListening(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server?.close(() => resolve()));
    await this.dropConnections();
    await closed;
    this.#server = undefined;
  }

  async listenAgain(): Promise<void> {
    if (this.#server === undefined) await this.listen(this.#port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server !== undefined) await this.stopListening();
  }

  #accept(socket: Socket): void {
    this.#connections += 1;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    void serveConnection(socket, {
      root: this.#root,
      rules: this.#rules,
      begin: (record) => this.#begin(record),
      end: (record) => {
        this.#active -= 1;
        this.#bodyBytes += record.bodyBytes;
      },
    });
  }

  #begin(facts: Omit<RequestRecord, 'id'>): RequestRecord {
    this.#lastId += 1;
    this.#requests += 1;
    this.#active += 1;
    this.#activeMax = Math.max(this.#activeMax, this.#active);
    const record: RequestRecord = { ...facts, id: this.#lastId };
    this.#records.push(record);
    if (this.#records.length > logRecordsMax) this.#records.shift();
    return record;
  }
}

if (import.meta.main) {
  const [root = '', port] = process.argv.slice(2);
  const origin = await startLyingOrigin({
    root,
    ...(port !== undefined && { port: Number(port) }),
  });
  const control = await startControl(origin);
  announceReady({ url: origin.url, controlUrl: control.url }, async () => {
    await control[Symbol.asyncDispose]();
    await origin[Symbol.asyncDispose]();
  });
}
