/**
 * The control server: HTTP+JSON over a unix socket (protocol in ../api.ts, work in handlers.ts).
 *
 * Who may connect is decided by the file system alone: the socket is 0600 in a directory that must be 0700 and
 * ours, so only this user and root reach it (Node offers no SO_PEERCRED). A socket file left by a dead daemon is
 * replaced; one that still answers is not.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import path from 'node:path';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import { http } from '../../base/late-modules.ts';
import { socketPathBytesMax, verifyPrivateDirectory } from '../../base/run-directory.ts';
import type { ApiError, HandleAnswer } from '../api.ts';
import { sendTokenContent } from './handle-endpoints.ts';
import type { ControlHandlers, HandleHandlers } from './handlers.ts';
import { sendNdjson } from './ndjson.ts';
import { openMetricsContentType, renderOpenMetrics } from './open-metrics.ts';
import { duRequestOf, lsRequestOf, logRequestOf, parseQuery, pathOf } from './requests.ts';
import {
  readDetachRequest,
  readHandleRequest,
  readPathsRequest,
  readStopRequest,
} from './requests.ts';
import type { Query } from './requests.ts';

export interface ControlServer {
  readonly socketPath: string;
  /**
   * Stops listening and removes the socket, lets requests in progress end for at most `closeGraceMs`, then
   * aborts them. Resolves when all connections are gone.
   */
  close(): Promise<void>;
}

/** Loaded with this file, so that a daemon that waits has it. */
const { createServer } = http();

const connectionsMax = 64;
const closeGraceMs = 500;

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: Query;
  readonly signal: AbortSignal;
}

type Endpoint = (handlers: ControlHandlers, exchange: Exchange) => Promise<void>;

const endpoints: ReadonlyMap<string, Endpoint> = new Map<string, Endpoint>([
  ['GET /v1/status', async (h, x) => sendJson(x, await h.status(x.signal))],
  ['GET /v1/ls', (h, x) => sendNdjson(x.response, h.ls(lsRequestOf(x.query), x.signal))],
  ['GET /v1/du', async (h, x) => sendJson(x, await h.du(duRequestOf(x.query), x.signal))],
  ['GET /v1/explain', async (h, x) => sendJson(x, await h.explain(pathOf(x.query), x.signal))],
  ['POST /v1/get', (h, x) => act(x, (request) => h.get(request, x.signal))],
  ['POST /v1/release', (h, x) => act(x, (request) => h.release(request, x.signal))],
  ['POST /v1/pin', (h, x) => act(x, (request) => h.pin(request, x.signal))],
  ['POST /v1/unpin', (h, x) => act(x, (request) => h.unpin(request, x.signal))],
  ['POST /v1/verify', (h, x) => act(x, (request) => h.verify(request, x.signal))],
  ['GET /v1/top', async (h, x) => sendJson(x, await h.top(x.signal))],
  ['GET /v1/log', (h, x) => sendNdjson(x.response, h.log(logRequestOf(x.query), x.signal))],
  ['POST /v1/refresh', (h, x) => act(x, (request) => h.refresh(request, x.signal))],
  [
    'POST /v1/handles',
    async (h, x) => {
      const { path: file } = await readHandleRequest(x.request);
      const answer: HandleAnswer = { token: await handlesOf(h).issue(file, x.signal) };
      sendJson(x, answer);
    },
  ],
  [
    'POST /v1/stop',
    async (h, x) => {
      sendJson(x, await h.stop(await readStopRequest(x.request), x.signal));
    },
  ],
  [
    'POST /v1/restart',
    async (h, x) => {
      await h.restart();
      sendJson(x, {});
    },
  ],
  [
    'POST /v1/detach',
    async (h, x) => {
      const request = await readDetachRequest(x.request);
      if (h.detach === undefined) {
        throw ebbError('EINVAL', 'This is a mount, not a tree; take it away with: ebb umount');
      }
      await sendNdjson(x.response, h.detach(request, x.signal), (done) => ({ done }));
    },
  ],
  [
    'GET /metrics',
    async (h, x) => {
      const body = renderOpenMetrics(await h.metrics(x.signal));
      x.response.writeHead(200, { 'content-type': openMetricsContentType }).end(body);
    },
  ],
]);

const tokenPrefix = '/v1/handles/';

function endpointOf(method: string, pathname: string): Endpoint | undefined {
  if (!pathname.startsWith(tokenPrefix)) return endpoints.get(`${method} ${pathname}`);
  const token = pathname.slice(tokenPrefix.length);
  if (method === 'DELETE') {
    return async (h, x) => {
      await handlesOf(h).revoke(token);
      sendJson(x, {});
    };
  }
  if (method !== 'GET') return undefined;
  return async (h, x) => {
    const handles = handlesOf(h);
    if (x.query.get('stat') === '1') return sendJson(x, await handles.info(token));
    await sendTokenContent(handles, token, x.request, x.response, x.signal);
  };
}

function handlesOf({ handles }: ControlHandlers): HandleHandlers {
  if (handles !== undefined) return handles;
  throw ebbError(
    'EOPNOTSUPP',
    'Tokens are given out by mounts; for a file of a tree take the handle of its own file system.',
  );
}

async function act(
  exchange: Exchange,
  start: (
    request: Awaited<ReturnType<typeof readPathsRequest>>,
  ) => ReturnType<ControlHandlers['get']>,
): Promise<void> {
  const request = await readPathsRequest(exchange.request);
  await sendNdjson(exchange.response, start(request), (done) => ({ done }));
}

/**
 * Starts serving on `socketPath`. Rejects with EACCES (directory not private), EADDRINUSE (a live daemon
 * answers there), ENAMETOOLONG (does not fit a unix address).
 */
export async function startControlServer(
  socketPath: string,
  handlers: ControlHandlers,
): Promise<ControlServer> {
  if (Buffer.byteLength(socketPath) > socketPathBytesMax) {
    throw ebbError('ENAMETOOLONG', `The socket path ${socketPath} is too long for a unix socket.`);
  }
  verifyPrivateDirectory(path.dirname(socketPath));
  await removeStaleSocket(socketPath);
  const closing = new AbortController();
  const server = createServer((request, response) => {
    void serve(handlers, request, response, closing.signal);
  });
  server.maxConnections = connectionsMax;
  await listen(server, socketPath);
  chmodSync(socketPath, 0o600);
  return { socketPath, close: () => closeServer(server, closing) };
}

async function removeStaleSocket(socketPath: string): Promise<void> {
  const found = lstatSync(socketPath, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (found.isSocket() && (await answers(socketPath))) {
    throw ebbError('EADDRINUSE', `Another daemon already serves ${socketPath}.`);
  }
  rmSync(socketPath);
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EAGAIN'));
  });
}

function listen(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(toEbbError(error)));
    server.listen(socketPath, () => resolve());
  });
}

async function closeServer(server: Server, closing: AbortController): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    closing.abort(ebbError('ESHUTDOWN', 'The daemon is stopping.'));
    server.closeAllConnections();
  }, closeGraceMs);
  await closed;
  clearTimeout(timer);
}

/** One request, from first byte to last; never rejects. */
async function serve(
  handlers: ControlHandlers,
  request: IncomingMessage,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort(ebbError('EINTR', 'The client went away.')));
  response.on('error', () => {}); // the close event follows and says all
  const signal = AbortSignal.any([gone.signal, closing]);
  const [pathname, query] = splitOnce(request.url ?? '', '?');
  try {
    const endpoint = endpointOf(request.method ?? '', pathname);
    if (endpoint === undefined) throw noEndpoint(request.method ?? '', pathname);
    await endpoint(handlers, { request, response, query: parseQuery(query), signal });
  } catch (error) {
    sendError(response, toEbbError(error));
  }
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function noEndpoint(method: string, pathname: string): EbbError {
  return ebbError('ENOSYS', `This daemon knows no ${method} ${pathname}; is its version older?`);
}

function sendJson(exchange: Exchange, value: unknown): void {
  const body = `${JSON.stringify(value)}\n`;
  exchange.response.writeHead(200, { 'content-type': 'application/json' }).end(body);
}

function sendError(response: ServerResponse, error: EbbError): void {
  const body: ApiError = { error: error.message, code: error.code, retryable: error.retryable };
  const line = `${JSON.stringify(body)}\n`;
  if (response.headersSent) {
    // NDJSON has begun: the error is the last line, and the body still ends properly.
    response.end(line);
    return;
  }
  // The rest of a refused body is not read: the connection cannot be used again.
  const headers = { 'content-type': 'application/json', connection: 'close' };
  response.writeHead(httpStatusOf(error.code), headers).end(line);
}

const httpStatuses: ReadonlyMap<ErrnoCode, number> = new Map<ErrnoCode, number>([
  ['EINVAL', 400],
  ['EACCES', 403],
  ['EPERM', 403],
  ['ENOENT', 404],
  ['EBUSY', 409],
  ['ESTALE', 409],
  ['EMSGSIZE', 413],
  ['ERANGE', 416],
  ['EOPNOTSUPP', 501],
  ['ENOSYS', 501],
  ['EAGAIN', 503],
  ['ESHUTDOWN', 503],
  ['ETIMEDOUT', 504],
  ['ENOSPC', 507],
  ['EDQUOT', 507],
]);

/** The HTTP status of an errno; 500 for what has none of its own. */
export function httpStatusOf(code: ErrnoCode): number {
  return httpStatuses.get(code) ?? 500;
}
