/** Steering a lying origin that runs in another process: a small HTTP endpoint, and its client. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { LyingOrigin, OriginCounters } from '../lying-origin.ts';
import type { RequestRecord } from './connection.ts';
import type { OriginRule } from './rules.ts';

export interface OriginControl extends AsyncDisposable {
  readonly url: string;
}

/**
 * `POST /rules`, `DELETE /rules`, `DELETE /rules/ID`, `GET|DELETE /log`, `GET /counters`, `POST
 * /drop|stop|listen`.
 */
export async function startControl(origin: LyingOrigin): Promise<OriginControl> {
  const server = http.createServer((request, response) => {
    const finish = (status: number, value: unknown): void => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(value ?? null));
    };
    text(request)
      .then((body) => perform(origin, `${request.method} ${request.url}`, body))
      .then((value) => finish(200, value))
      .catch((error: unknown) => finish(400, { error: String(error) }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function perform(origin: LyingOrigin, action: string, body: string): Promise<unknown> {
  const rule = /^DELETE \/rules\/(\d+)$/.exec(action);
  if (rule !== null) return origin.removeRule(Number(rule[1]));
  switch (action) {
    case 'POST /rules':
      return origin.addRule(JSON.parse(body) as OriginRule);
    case 'DELETE /rules':
      return origin.clearRules();
    case 'GET /log':
      return origin.log();
    case 'DELETE /log':
      return origin.clearLog();
    case 'GET /counters':
      return origin.counters();
    case 'POST /drop':
      return origin.dropConnections();
    case 'POST /stop':
      return origin.stopListening();
    case 'POST /listen':
      return origin.listenAgain();
    default:
      return Promise.reject(new Error(`no such action: ${action}`));
  }
}

/** The origin in another process. */
export class OriginClient implements LyingOrigin {
  readonly url: string;
  readonly controlUrl: string;
  readonly #child: AsyncDisposable;

  constructor(url: string, controlUrl: string, child: AsyncDisposable) {
    this.url = url;
    this.controlUrl = controlUrl;
    this.#child = child;
  }

  addRule(rule: OriginRule): Promise<number> {
    return this.#ask('POST', '/rules', rule) as Promise<number>;
  }

  async removeRule(id: number): Promise<void> {
    await this.#ask('DELETE', `/rules/${id}`);
  }

  async clearRules(): Promise<void> {
    await this.#ask('DELETE', '/rules');
  }

  log(): Promise<RequestRecord[]> {
    return this.#ask('GET', '/log') as Promise<RequestRecord[]>;
  }

  async clearLog(): Promise<void> {
    await this.#ask('DELETE', '/log');
  }

  counters(): Promise<OriginCounters> {
    return this.#ask('GET', '/counters') as Promise<OriginCounters>;
  }

  async dropConnections(): Promise<void> {
    await this.#ask('POST', '/drop');
  }

  async stopListening(): Promise<void> {
    await this.#ask('POST', '/stop');
  }

  async listenAgain(): Promise<void> {
    await this.#ask('POST', '/listen');
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#child[Symbol.asyncDispose]();
  }

  async #ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(this.controlUrl + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const value: unknown = await response.json();
    if (!response.ok)
      throw new Error(`the origin refused ${method} ${path}: ${JSON.stringify(value)}`);
    return value;
  }
}
