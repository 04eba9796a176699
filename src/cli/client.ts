/** A thin, typed client of the control API (daemon/api.ts) over a unix socket. */
import type { IncomingMessage } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { EbbError } from '../base/errors.ts';
import { Errno } from '../base/errno.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { http } from '../base/late-modules.ts';
import { encodePathParameter } from '../base/percent.ts';
import { isRunning, runFiles } from '../base/run-directory.ts';
import type {
  ActionResult,
  ApiError,
  BriefFileInfo,
  DetachRequest,
  DetachResult,
  DiskUsage,
  Explanation,
  FileInfo,
  HandleAnswer,
  LogRecord,
  MountStatus,
  PathsRequest,
  Progress,
  StopResult,
  Top,
  TreeStatus,
} from '../daemon/api.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { isTakenAway, takenAwaySentence } from './taken-away.ts';

/** A mount's supervisor replaces a daemon that died: for so long its socket may be without anybody. */
const successorWaitMs = 5_000;
const successorPollMs = 50;

export type ActionVerb = 'get' | 'release' | 'pin' | 'unpin' | 'verify' | 'refresh';
export type LsMode = 'entries' | 'recursive' | 'deep' | 'self';
export type ActionLine<Result = ActionResult> = Progress | { readonly done: Result };

const lsFlags: Readonly<Record<LsMode, string>> = {
  entries: '',
  recursive: '&recursive=1',
  deep: '&recursive=1&deep=1',
  self: '&self=1',
};

/** One JSON answer above this is not believed (listings are streams of lines, each bounded by itself). */
const answerMaxBytes = 16 * 1024 * 1024;

/**
 * Talks to one daemon. Every call opens a connection of its own, so nothing keeps the process alive afterwards.
 * All calls reject with EbbError: the daemon's own errors with their code, ENOTCONN when no daemon answers.
 */
export class ControlClient {
  readonly record: RunRecord;

  constructor(record: RunRecord) {
    this.record = record;
  }

  status(): Promise<MountStatus | TreeStatus> {
    return this.#json('GET', '/v1/status');
  }

  /** `recursive`: what is known below; `deep`: everything, listing what was never listed. */
  ls(path: string, mode: LsMode = 'entries'): AsyncGenerator<FileInfo> {
    const flag = lsFlags[mode];
    return this.#lines('GET', `/v1/ls?path=${encodePathParameter(path)}${flag}`);
  }

  /** As `ls`, with no more of each entry than its state. */
  states(path: string, mode: 'recursive' | 'deep'): AsyncGenerator<BriefFileInfo> {
    const flags = `${lsFlags[mode]}&brief=1`;
    return this.#lines('GET', `/v1/ls?path=${encodePathParameter(path)}${flags}`);
  }

  du(path: string, deep: boolean): Promise<DiskUsage> {
    return this.#json('GET', `/v1/du?path=${encodePathParameter(path)}${deep ? '&deep=1' : ''}`);
  }

  explain(path: string): Promise<Explanation> {
    return this.#json('GET', `/v1/explain?path=${encodePathParameter(path)}`);
  }

  /** Progress lines, then `{ done }`; a stream that ends without it rejects with EIO. */
  act(verb: ActionVerb, body: PathsRequest): AsyncGenerator<ActionLine> {
    return this.#untilDone(`/v1/${verb}`, body);
  }

  /** Trees only. */
  detach(body: DetachRequest): AsyncGenerator<ActionLine<DetachResult>> {
    return this.#untilDone('/v1/detach', body);
  }

  async *#untilDone<Result>(target: string, body: unknown): AsyncGenerator<ActionLine<Result>> {
    let finished = false;
    for await (const line of this.#lines<ActionLine<Result>>('POST', target, body)) {
      if ('done' in line) finished = true;
      yield line;
    }
    if (!finished) throw this.#brokenOff();
  }

  top(): Promise<Top> {
    return this.#json('GET', '/v1/top');
  }

  log(follow: boolean, lines: number): AsyncGenerator<LogRecord> {
    return this.#lines('GET', `/v1/log?follow=${follow ? 1 : 0}&lines=${lines}`);
  }

  /** A token for a file. */
  async handle(path: string): Promise<string> {
    const answer = await this.#json<HandleAnswer>('POST', '/v1/handles', { path });
    return answer.token;
  }

  async revoke(token: string): Promise<void> {
    await this.#json('DELETE', `/v1/handles/${token}`);
  }

  tokenInfo(token: string): Promise<FileInfo> {
    return this.#json('GET', `/v1/handles/${token}?stat=1`);
  }

  /** The content, or what `range` (`0-99`, `100-`, `-5`) says of it. Pieces; one that ends short rejects with EIO. */
  async *tokenContent(token: string, range: string | undefined): AsyncGenerator<Uint8Array> {
    const headers = range === undefined ? undefined : { range: `bytes=${range}` };
    const response = await this.#send('GET', `/v1/handles/${token}`, undefined, headers);
    try {
      yield* response as AsyncIterable<Buffer>;
    } catch {
      throw ebbError('EIO', 'The content broke off; ebb log says why.');
    } finally {
      response.destroy();
    }
  }

  stop(lazy: boolean): Promise<StopResult> {
    return this.#json('POST', '/v1/stop', { lazy });
  }

  async #json<Answer>(method: string, target: string, body?: unknown): Promise<Answer> {
    const response = await this.#send(method, target, body);
    return (await readJson(response)) as Answer;
  }

  async *#lines<Line>(method: string, target: string, body?: unknown): AsyncGenerator<Line> {
    const response = await this.#send(method, target, body);
    try {
      for await (const line of splitLines(response)) {
        const value = parseLine(line) as Line | ApiError;
        if (isApiError(value)) throw fromApi(value);
        yield value;
      }
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ECONNRESET') {
        throw this.#brokenOff();
      }
      throw toEbbError(error);
    } finally {
      response.destroy();
    }
  }

  /** Mounts only: another daemon takes this one's place. Resolves when it is about to. */
  async restart(): Promise<void> {
    await this.#json('POST', '/v1/restart', {});
  }

  /** Resolves with a response of status 200 or 206; other statuses reject with the daemon's error. */
  async #send(
    method: string,
    target: string,
    body: unknown,
    extraHeaders: Readonly<Record<string, string>> = {},
  ): Promise<IncomingMessage> {
    const untilMs = performance.now() + successorWaitMs;
    for (;;) {
      try {
        return await this.#sendOnce(method, target, body, extraHeaders);
      } catch (error) {
        const mayReturn = this.record.kind === undefined && isNobodyThere(error);
        if (!mayReturn || performance.now() >= untilMs || !isRunning(this.record)) throw error;
      }
      await sleep(successorPollMs);
    }
  }

  async #sendOnce(
    method: string,
    target: string,
    body: unknown,
    extraHeaders: Readonly<Record<string, string>>,
  ): Promise<IncomingMessage> {
    // Loading it takes longer than all else that many verbs do, and those that never ask a daemon have no need of it.
    const { request } = http();
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const outgoing = request({
        socketPath: this.record.socketPath,
        method,
        path: target,
        agent: false,
        headers: {
          ...extraHeaders,
          ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
        },
      });
      outgoing.once('response', resolve);
      outgoing.once('error', (error) => reject(this.#unreachable(error)));
      outgoing.end(payload);
    });
    if (response.statusCode === 200 || response.statusCode === 206) return response;
    const answer = await readJson(response);
    if (isApiError(answer)) throw fromApi(answer);
    throw ebbError('EPROTO', `The daemon answered with HTTP status ${response.statusCode}.`);
  }

  #unreachable(cause: Error): EbbError {
    const { kind, mountPoint, pid, socketPath } = this.record;
    const { log } = runFiles(mountPoint, path.dirname(socketPath));
    const code = (cause as { code?: unknown }).code;
    if (code === 'EACCES' || code === 'EPERM') {
      return ebbError('EACCES', `The mount ${mountPoint} belongs to another user.`, { cause });
    }
    if (isTakenAway(this.record))
      return ebbError('ENOTCONN', takenAwaySentence(this.record), { cause });
    const sentence =
      kind === 'tree'
        ? `The daemon of ${mountPoint} does not answer, and is started again after a while; ` +
          `at once with: ebb attach ${mountPoint}; take the tree away with: ebb umount -l ${mountPoint}`
        : `The daemon of ${mountPoint} (pid ${pid}) does not answer; another one may be started after a while: ` +
          `${log} says why; let everybody go with: ebb umount ${mountPoint}`;
    return ebbError('ENOTCONN', sentence, { cause });
  }

  #brokenOff(): EbbError {
    const { mountPoint } = this.record;
    return ebbError('EIO', `The daemon of ${mountPoint} broke off its answer; see: ebb status`);
  }
}

/** Nobody has heard the request: it can be said again. */
function isNobodyThere(error: unknown): boolean {
  const cause =
    error instanceof Error ? (error.cause as { code?: unknown } | undefined) : undefined;
  return cause?.code === 'ECONNREFUSED' || cause?.code === 'ENOENT';
}

async function readJson(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > answerMaxBytes) {
      response.destroy();
      throw ebbError('EMSGSIZE', 'The daemon answered more than expected.');
    }
    chunks.push(chunk);
  }
  return parseLine(Buffer.concat(chunks).toString('utf8'));
}

async function* splitLines(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > answerMaxBytes)
      throw ebbError('EMSGSIZE', 'A line of the answer is too long.');
    yield* lines;
  }
  if (rest !== '') yield rest;
}

function parseLine(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw ebbError('EPROTO', 'The daemon answered something that is not JSON.', { cause: error });
  }
}

function isApiError(value: unknown): value is ApiError {
  if (typeof value !== 'object' || value === null) return false;
  const { error, code } = value as { error?: unknown; code?: unknown };
  return typeof error === 'string' && typeof code === 'string';
}

function fromApi(answer: ApiError): EbbError {
  const code: ErrnoCode = Object.hasOwn(Errno, answer.code) ? (answer.code as ErrnoCode) : 'EIO';
  return ebbError(code, answer.error, { retryable: answer.retryable });
}
