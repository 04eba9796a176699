/**
 * An origin that says exactly the bytes a test wants: a raw TCP or TLS server that reads request heads and hands each
 * to the script. For answers that no real server gives on purpose.
 */
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

export interface ScriptedRequest {
  readonly method: string;
  readonly path: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** 1 for the first request to this origin. */
  readonly count: number;
  readonly socket: Socket;
}

export interface ScriptedOrigin extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly ScriptedRequest[];
  /** Connections that are open now. */
  readonly openConnections: number;
}

/** What the script gives is written as it is; undefined: it wrote itself (or says nothing). */
export type Script = (request: ScriptedRequest) => string | Uint8Array | undefined;

/** `secure`: PEM texts, for https. */
export async function scriptedOrigin(
  script: Script,
  secure?: { readonly cert: string; readonly key: string },
): Promise<ScriptedOrigin> {
  const sockets = new Set<Socket>();
  const requests: ScriptedRequest[] = [];
  const serve = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let text = '';
    socket.on('data', (data) => {
      text += data.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const request = parseRequest(text.slice(0, end), requests.length + 1, socket);
        text = text.slice(end + 4);
        requests.push(request);
        const answer = script(request);
        if (answer !== undefined && !socket.destroyed) {
          socket.write(typeof answer === 'string' ? Buffer.from(answer, 'latin1') : answer);
        }
      }
    });
  };
  const server = secure === undefined ? createServer(serve) : createTlsServer(secure, serve);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `${secure === undefined ? 'http' : 'https'}://127.0.0.1:${port}/`,
    requests,
    get openConnections() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

function parseRequest(head: string, count: number, socket: Socket): ScriptedRequest {
  const [first = '', ...lines] = head.split('\r\n');
  const [method = '', path = ''] = first.split(' ');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { method, path, headers, count, socket };
}

/** An answer; Content-Length is that of the body unless the fields name one or say chunked. */
export function answer(
  status: number,
  fields: Readonly<Record<string, string | number | undefined>> = {},
  body: string | Uint8Array = '',
): Uint8Array {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body;
  const all: Record<string, string | number | undefined> = {
    'Content-Length': bytes.length,
    ...fields,
  };
  if (fields['Transfer-Encoding'] !== undefined) all['Content-Length'] = undefined;
  const lines = Object.entries(all)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${status} Status\r\n${lines.join('')}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), bytes]);
}

/** The range of a request, as numbers. */
export function askedRange(request: ScriptedRequest): [first: number, last: number] {
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers['range'] ?? '');
  const last = match?.[2] ?? '';
  return [Number(match?.[1]), last === '' ? Number.NaN : Number(last)];
}
