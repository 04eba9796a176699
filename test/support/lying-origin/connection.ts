/**
 * One connection to the lying origin: requests one after the other, answers byte by byte as the
 * faults want it.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeName } from '../../../src/base/name.ts';
import { answer, simpleAnswer } from './answer.ts';
import type { Answer } from './answer.ts';
import { decodeTarget, formatHead, parseRequestHead } from './http-text.ts';
import type { RequestHead } from './http-text.ts';
import type { FaultSet, RuleTable } from './rules.ts';

/** What is kept of every request. */
export interface RequestRecord {
  readonly id: number;
  readonly method: string;
  /** Decoded, with leading slash, in the lossless form of base/name.ts. */
  readonly path: string;
  readonly range: string | null;
  readonly ifMatch: string | null;
  readonly ifRange: string | null;
  readonly authorization: string | null;
  readonly userAgent: string | null;
  /** 0: no answer was sent. */
  status: number;
  /** Bytes of the body handed to the kernel. */
  bodyBytes: number;
  /** Kinds of the faults that applied. */
  readonly faults: readonly string[];
  readonly startedAtMs: number;
  /** null while it is under way. */
  endedAtMs: number | null;
}

export interface ConnectionHost {
  readonly root: string;
  readonly rules: RuleTable;
  begin(record: Omit<RequestRecord, 'id'>): RequestRecord;
  end(record: RequestRecord): void;
}

const blockBytes = 256 * 1024;
const headMaxBytes = 64 * 1024;
const dripPieceMs = 20;

/** Thrown to drop the connection. */
class Drop extends Error {
  readonly reset: boolean;

  constructor(reset = false) {
    super('dropped');
    this.reset = reset;
  }
}

export async function serveConnection(socket: Socket, host: ConnectionHost): Promise<void> {
  socket.on('error', () => {});
  socket.setNoDelay(true);
  try {
    for await (const text of requestHeads(socket)) {
      const request = parseRequestHead(text);
      if (request === undefined) break;
      if (!(await serve(socket, host, request))) break;
    }
    socket.end();
  } catch (error) {
    if (error instanceof Drop && error.reset) socket.resetAndDestroy();
    else if (error instanceof Drop) socket.end(() => socket.destroy());
    else socket.destroy();
  }
}

/**
 * Splits the stream at empty lines; request bodies are not supported. The socket flows all the
 * time, so that a client that goes away is noticed in the middle of an answer, too.
 */
async function* requestHeads(socket: Socket): AsyncIterable<string> {
  let pending = '';
  let over = false;
  let wake = (): void => {};
  const finish = (): void => {
    over = true;
    wake();
  };
  socket.on('data', (piece: Buffer) => {
    pending += piece.toString('latin1');
    if (pending.length > headMaxBytes) socket.destroy();
    wake();
  });
  socket.once('end', finish).once('close', finish);
  for (;;) {
    const end = pending.indexOf('\r\n\r\n');
    if (end >= 0) {
      const head = pending.slice(0, end);
      pending = pending.slice(end + 4);
      yield head;
    } else if (over) {
      return;
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

/** Gives whether the connection may be used again. */
async function serve(socket: Socket, host: ConnectionHost, request: RequestHead): Promise<boolean> {
  const path = decodeTarget(request.target);
  const shown = path === undefined ? request.target : decodeName(path);
  const header = (name: string): string | null => request.headers.get(name) ?? null;
  const range = header('range');
  const faults = host.rules.apply({ path: shown, method: request.method, ranged: range !== null });
  const record = host.begin({
    method: request.method,
    path: shown,
    range,
    ifMatch: header('if-match'),
    ifRange: header('if-range'),
    authorization: header('authorization'),
    userAgent: header('user-agent'),
    status: 0,
    bodyBytes: 0,
    faults: faults.kinds,
    startedAtMs: Date.now(),
    endedAtMs: null,
  });
  try {
    await beforeAnswer(socket, faults);
    await using content = await findAnswer(host.root, path, request, faults);
    return await new Response(socket, content, request, faults, record).send();
  } finally {
    record.endedAtMs = Date.now();
    host.end(record);
  }
}

async function findAnswer(
  root: string,
  path: Buffer | undefined,
  request: RequestHead,
  faults: FaultSet,
): Promise<Answer> {
  if (path === undefined) return simpleAnswer(400);
  if (request.method !== 'GET' && request.method !== 'HEAD') return simpleAnswer(405);
  if (path.includes(0) || path.toString('latin1').split('/').includes('..'))
    return simpleAnswer(400);
  return await answer(root, path, request, faults);
}

async function beforeAnswer(socket: Socket, faults: FaultSet): Promise<void> {
  const latencyMs = faults.get('latency')?.latencyMs ?? 0;
  if (latencyMs > 0) await sleep(latencyMs);
  const cut = faults.get('cutBeforeHeaders');
  if (cut !== undefined) throw new Drop(cut.reset);
  if (faults.has('stallHeaders')) await forever(socket);
  const garbage = faults.get('garbage');
  if (garbage !== undefined) {
    await send(socket, Buffer.from(garbage.text ?? 'ICY \x00\xff what is this\r\n\r\n', 'latin1'));
    throw new Drop();
  }
  const informational = faults.get('informational');
  if (informational !== undefined) {
    const status = informational.status ?? 103;
    for (let index = 0; index < (informational.count ?? 1); index += 1) {
      await send(
        socket,
        Buffer.from(`HTTP/1.1 ${status} Interim\r\nLink: </x>; rel=preload\r\n\r\n`),
      );
    }
  }
}

class Response {
  readonly #socket: Socket;
  readonly #answer: Answer;
  readonly #request: RequestHead;
  readonly #faults: FaultSet;
  readonly #record: RequestRecord;

  constructor(
    socket: Socket,
    content: Answer,
    request: RequestHead,
    faults: FaultSet,
    record: RequestRecord,
  ) {
    this.#socket = socket;
    this.#answer = content;
    this.#request = request;
    this.#faults = faults;
    this.#record = record;
  }

  get #isClosedAtEnd(): boolean {
    const closes = this.#faults.has('closeDelimited') || this.#faults.has('short');
    return closes || !this.#request.keepAlive;
  }

  async send(): Promise<boolean> {
    const { status, lines, chunked } = this.#answer;
    const all = ['Server: lying-origin', `Date: ${new Date().toUTCString()}`, ...lines];
    if (chunked) all.push('Transfer-Encoding: chunked');
    else if (!this.#faults.has('closeDelimited'))
      all.push(`Content-Length: ${this.#answer.sizeBytes}`);
    all.push(...(this.#faults.get('headers')?.lines ?? []));
    all.push(this.#isClosedAtEnd ? 'Connection: close' : 'Connection: keep-alive');
    this.#record.status = status;
    await send(this.#socket, Buffer.from(formatHead(status, all), 'latin1'));
    if (this.#request.method !== 'HEAD') await this.#sendBody();
    return !this.#isClosedAtEnd;
  }

  /** Where the stream of the body ends too early, and how. */
  #brokenAt(): { readonly atBytes: number; readonly end: () => Promise<void> } {
    const faults = this.#faults;
    const cut = faults.get('cut');
    const listingCut = this.#answer.isFile ? undefined : faults.get('listingCut');
    const ends = [
      { atBytes: cut?.afterBytes, end: () => drop(cut?.reset) },
      { atBytes: faults.get('chunked')?.cutAfterBytes, end: () => drop() },
      {
        atBytes: listingCut?.clean === true ? undefined : listingCut?.afterBytes,
        end: () => drop(),
      },
      { atBytes: faults.get('stallBody')?.afterBytes, end: () => forever(this.#socket) },
    ];
    let first = { atBytes: Infinity, end: () => drop() };
    for (const { atBytes, end } of ends) {
      if (atBytes !== undefined && atBytes < first.atBytes) first = { atBytes, end };
    }
    return first;
  }

  async #sendBody(): Promise<void> {
    const broken = this.#brokenAt();
    const shortBy = this.#faults.get('short')?.byBytes ?? 0;
    const longBy = this.#faults.get('long')?.byBytes ?? 0;
    const endBytes = Math.max(0, this.#answer.sizeBytes - shortBy + longBy);
    const pieceBytes = this.#pieceBytes();
    let offset = 0;
    while (offset < endBytes) {
      if (offset >= broken.atBytes) await broken.end();
      const length = Math.min(pieceBytes, endBytes - offset, broken.atBytes - offset);
      const bytes = await this.#answer.read(offset, length);
      await this.#sendPiece(bytes);
      offset += length;
      if (this.#faults.has('drip')) await sleep(dripPieceMs);
    }
    if (this.#answer.chunked) await send(this.#socket, Buffer.from('0\r\n\r\n'));
  }

  #pieceBytes(): number {
    const drip = this.#faults.get('drip');
    if (drip === undefined) return blockBytes;
    return Math.max(1, Math.round((drip.bytesPerSecond * dripPieceMs) / 1000));
  }

  async #sendPiece(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    if (this.#answer.chunked) {
      await send(this.#socket, Buffer.from(`${bytes.length.toString(16)}\r\n`));
      await send(this.#socket, bytes);
      await send(this.#socket, Buffer.from('\r\n'));
    } else {
      await send(this.#socket, bytes);
    }
    this.#record.bodyBytes += bytes.length;
  }
}

function drop(reset = false): Promise<void> {
  return Promise.reject(new Drop(reset));
}

/** Until the other side, or the test, closes the connection. */
function forever(socket: Socket): Promise<void> {
  return new Promise((_resolve, reject) => {
    const onClose = (): void => reject(new Drop());
    if (socket.destroyed) onClose();
    else socket.once('close', onClose);
  });
}

/** Resolves when the kernel, or at least the socket's buffer, has room again. */
function send(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    if (socket.destroyed || !socket.writable) {
      reject(new Drop());
      return;
    }
    const onClose = (): void => reject(new Drop());
    socket.once('close', onClose);
    const done = (): void => {
      socket.off('close', onClose);
      resolve();
    };
    if (socket.write(bytes)) done();
    else socket.once('drain', done);
  });
}
