/**
 * One range of one object. Everything that the head of the answer says is checked before the first byte moves:
 * status, Content-Range, Content-Length, version. A strong entity tag is asked for with If-Match and not with
 * If-Range: a changed object then answers 412 in a few bytes instead of 200 with its whole new body, and a 206 to
 * If-Range need not repeat the fields by which the version is checked (RFC 9110, section 15.3.7).
 */
import { assert } from '../../base/assert.ts';
import { sleep } from '../../base/deadline.ts';
import { ebbError } from '../../base/errors.ts';
import type { ObjectAttributes, RangeSink, ReadOptions } from '../remote.ts';
import { answerProblem, versionProblem } from './answer-checks.ts';
import { blindForMs, endsWithConnection, field, fileAttributes } from './attributes.ts';
import {
  isConfirmedBy,
  mediaType,
  parseContentRange,
  parseLength,
  strongTagOf,
} from './attributes.ts';
import { ExactTarget } from './exact-target.ts';
import type { ClientRequest, FinalHead } from './http-client.ts';
import { SinkGuard } from './sink-guard.ts';
import { statObject } from './stat.ts';
import type { RequestContext } from './stat.ts';
import type { BodyTarget } from './transport.ts';
import { requestPath } from './url.ts';

/** What the answer turned out to be. */
type Outcome = 'done' | 'precondition failed' | 'beyond the end' | 'without length';

/** How a request is made, and what is known by other ways than its answer. */
interface Manner {
  readonly usesTag: boolean;
  /** Undefined: nobody has told. Counts where the answer itself does not tell where it ends. */
  readonly sizeBytes: number | undefined;
}

/** See `Remote.read`. */
export async function readRange(
  context: RequestContext,
  key: string,
  sink: RangeSink,
  options: ReadOptions,
): Promise<void> {
  checkRange(options);
  const { traits } = context;
  const whole = options.offsetBytes === 0 && options.lengthBytes === undefined;
  if (!whole && !traits.supportsRanges) throw noRanges(key);
  if (options.lengthBytes === 0) {
    sink.head(await confirmVersion(context, key, options));
    return;
  }
  const usesTag = traits.honoursIfMatch && ifMatchTag(options.version) !== undefined;
  const first: Manner = { usesTag, sizeBytes: undefined };
  let outcome = await attempt(context, key, sink, options, first);
  if (outcome === 'done') return;
  const attributes = await confirmVersion(context, key, options);
  const { sizeBytes } = attributes;
  if (outcome === 'precondition failed') {
    // The version is the one asked for, so this server's idea of If-Match is wrong (412 for everything).
    traits.honoursIfMatch = false;
    outcome = await attempt(context, key, sink, options, { usesTag: false, sizeBytes });
  } else if (outcome === 'without length' && sizeBytes !== undefined) {
    // The size is that of this version.
    const version = options.version ?? attributes.version;
    outcome = await attempt(context, key, sink, { ...options, version }, { usesTag, sizeBytes });
  }
  if (outcome === 'done') return;
  if (outcome === 'without length') throw withoutLength(context.basePath + key);
  if (options.lengthBytes === undefined && options.offsetBytes === sizeBytes) {
    sink.head(attributes);
    return;
  }
  throw beyondTheEnd(context.basePath + key, sizeBytes);
}

function beyondTheEnd(what: string, sizeBytes: number | undefined): Error {
  const has = sizeBytes === undefined ? '' : ` of ${sizeBytes} bytes`;
  const message = `The range lies beyond the end${has} of ${what}.`;
  return ebbError('EIO', message, { retryable: false });
}

function withoutLength(what: string): Error {
  const message =
    `The server sends ${what} without saying how long it is (neither Content-Length nor chunks): ` +
    'if the connection broke, a part would pass for the whole.';
  return ebbError('EIO', message, { retryable: false });
}

function checkRange(options: ReadOptions): void {
  const { offsetBytes, lengthBytes } = options;
  const end = offsetBytes + (lengthBytes ?? 0);
  const valid = Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && Number.isSafeInteger(end);
  if (!valid || end < offsetBytes) {
    throw ebbError('EINVAL', `${offsetBytes}+${lengthBytes} is not a range of bytes.`);
  }
}

/** A tag that can go into a header field as it is. */
function ifMatchTag(version: string | undefined): string | undefined {
  const tag = strongTagOf(version);
  return tag !== undefined && /^[\u0021-\u007e]*$/.test(tag) ? tag : undefined;
}

function noRanges(key: string): Error {
  return ebbError('EOPNOTSUPP', `The server ignores ranges: ${key} can only be read as a whole.`);
}

function endUnknown(key: string): Error {
  const message = `The server does not say where ${key} ends: it can only be read as a whole.`;
  return ebbError('EOPNOTSUPP', message);
}

/** The current attributes. Rejects with ESTALE unless the version is (still) the one asked for. */
async function confirmVersion(
  context: RequestContext,
  key: string,
  options: ReadOptions,
): Promise<ObjectAttributes> {
  const attributes = await statObject(context, key, options.signal);
  if (attributes.kind === 'directory') throw ebbError('EISDIR', `${key} is a directory.`);
  const { version } = options;
  if (version === undefined) return attributes;
  if (!isConfirmedBy(version, attributes)) {
    throw ebbError('ESTALE', `${key} has another version now (${attributes.version}).`);
  }
  return { ...attributes, version };
}

/** Of what is too young to be told from what may follow it nothing is taken: it is asked for again, once. */
async function attempt(
  context: RequestContext,
  key: string,
  sink: RangeSink,
  options: ReadOptions,
  manner: Manner,
): Promise<Outcome> {
  const outcome = await ask(context, key, sink, options, { ...manner, takesYoung: false });
  if (typeof outcome === 'string') return outcome;
  await sleep(outcome.blindForMs, options.signal);
  const second = await ask(context, key, sink, options, { ...manner, takesYoung: true });
  assert(typeof second === 'string', 'it is waited for once');
  return second;
}

/** The file is too young (`blindForMs`): nothing was taken. */
interface TooYoung {
  readonly blindForMs: number;
}

async function ask(
  context: RequestContext,
  key: string,
  sink: RangeSink,
  options: ReadOptions,
  { usesTag, sizeBytes, takesYoung }: Manner & { readonly takesYoung: boolean },
): Promise<Outcome | TooYoung> {
  const { offsetBytes, lengthBytes, version, signal } = options;
  const headers: Record<string, string> = {};
  const ranged = offsetBytes > 0 || lengthBytes !== undefined;
  if (ranged) {
    const last = lengthBytes === undefined ? '' : String(offsetBytes + lengthBytes - 1);
    headers['range'] = `bytes=${offsetBytes}-${last}`;
  }
  const tag = ifMatchTag(version);
  if (usesTag && tag !== undefined) headers['if-match'] = tag;
  const path = requestPath(context.basePath, key, false);
  const request: ClientRequest = {
    method: 'GET',
    path,
    headers,
    wants: 'content',
  };

  const guard = new SinkGuard(sink);
  let outcome: Outcome | TooYoung = 'done';
  let target: ExactTarget | undefined;
  const head = (answer: FinalHead): BodyTarget | undefined => {
    if (answer.namesDirectory) throw ebbError('EISDIR', `${key} is a directory.`);
    if (usesTag && answer.status === 412) outcome = 'precondition failed';
    else if (ranged && answer.status === 416) outcome = 'beyond the end';
    else if (!ranged && sizeBytes === undefined && isWholeWithoutLength(answer)) {
      outcome = 'without length';
    } else {
      const accepted = ranged
        ? acceptRanged(context, key, options, answer)
        : acceptWhole(context, key, options, answer, sizeBytes);
      const blindMs = takesYoung ? 0 : blindForMs(answer.headers);
      if (blindMs > 0) {
        outcome = { blindForMs: blindMs };
        return undefined;
      }
      outcome = 'done';
      guard.head(accepted.attributes);
      target = new ExactTarget(guard, accepted.expectedBytes, accepted.mayStopEarly, answer.url);
      return target;
    }
    return undefined;
  };
  try {
    await context.client.send(request, { head }, signal);
  } catch (error) {
    guard.rethrow();
    if (target?.isSatisfied !== true) throw error;
  }
  target?.end();
  return outcome;
}

interface Accepted {
  readonly attributes: ObjectAttributes;
  /** Undefined: as long as the answer is. */
  readonly expectedBytes: number | undefined;
  /** The body may go on after the expected bytes: its rest is not wanted. */
  readonly mayStopEarly: boolean;
}

function isWholeWithoutLength({ status, headers }: FinalHead): boolean {
  return status === 200 && endsWithConnection(headers);
}

/** `knownBytes`: what a HEAD told, for an answer that does not. */
function acceptWhole(
  context: RequestContext,
  key: string,
  options: ReadOptions,
  answer: FinalHead,
  knownBytes: number | undefined,
): Accepted {
  const sizeBytes = endsWithConnection(answer.headers)
    ? knownBytes
    : parseLength(field(answer.headers, 'content-length'));
  const attributes = believe(context, key, options, answer, { allowed: [200], sizeBytes });
  return { attributes, expectedBytes: sizeBytes, mayStopEarly: false };
}

function acceptRanged(
  context: RequestContext,
  key: string,
  options: ReadOptions,
  answer: FinalHead,
): Accepted {
  if (answer.status === 200) return acceptIgnoredRange(context, key, options, answer);
  const range = parseContentRange(field(answer.headers, 'content-range'));
  const sizeBytes = range?.totalBytes;
  const attributes = believe(context, key, options, answer, { allowed: [206], sizeBytes });
  if (mediaType(answer.headers) === 'multipart/byteranges') {
    throw wrongRange(answer, 'several ranges in one answer');
  }
  if (range === undefined) throw wrongRange(answer, 'no valid Content-Range');
  const { offsetBytes, lengthBytes } = options;
  // It may be less than all that is left: the end of such a range is no proof of where the file ends.
  if (lengthBytes === undefined && sizeBytes === undefined) throw endUnknown(key);
  const lastByte = (lengthBytes === undefined ? (sizeBytes ?? 0) : offsetBytes + lengthBytes) - 1;
  const cutAtEnd = sizeBytes !== undefined && lastByte >= sizeBytes;
  if (cutAtEnd && range.firstByte === offsetBytes && range.lastByte === sizeBytes - 1) {
    throw beyondTheEnd(answer.url, sizeBytes);
  }
  if (range.firstByte !== offsetBytes || range.lastByte !== lastByte) {
    const asked = `${offsetBytes}-${lengthBytes === undefined ? '' : lastByte}`;
    throw wrongRange(answer, `${range.firstByte}-${range.lastByte} for ${asked}`);
  }
  const expectedBytes = range.lastByte - range.firstByte + 1;
  const announcedBytes = parseLength(field(answer.headers, 'content-length'));
  if (announcedBytes !== undefined && announcedBytes !== expectedBytes) {
    throw wrongRange(answer, `${announcedBytes} bytes where ${expectedBytes} belong`);
  }
  context.traits.honouredRange(answer);
  return { attributes, expectedBytes, mayStopEarly: false };
}

/** 200 to a ranged request: the whole object. Its beginning may be all that was asked for. */
function acceptIgnoredRange(
  context: RequestContext,
  key: string,
  options: ReadOptions,
  answer: FinalHead,
): Accepted {
  const sizeBytes = parseLength(field(answer.headers, 'content-length'));
  const attributes = believe(context, key, options, answer, { allowed: [200], sizeBytes });
  context.traits.ignoredRange(key, answer);
  const { offsetBytes, lengthBytes } = options;
  if (offsetBytes > 0 || lengthBytes === undefined) throw noRanges(key);
  if (sizeBytes !== undefined && sizeBytes < lengthBytes) {
    throw wrongRange(answer, `only ${sizeBytes} bytes for ${lengthBytes}`);
  }
  return { attributes, expectedBytes: lengthBytes, mayStopEarly: true };
}

/** Status, encoding and version; gives the attributes to announce. */
function believe(
  context: RequestContext,
  key: string,
  options: ReadOptions,
  answer: FinalHead,
  is: { readonly allowed: readonly number[]; readonly sizeBytes: number | undefined },
): ObjectAttributes {
  if (answer.status >= 200 && answer.status < 300 && !is.allowed.includes(answer.status)) {
    throw wrongRange(answer, `status ${answer.status}`);
  }
  const problem = answerProblem(answer, key, is.allowed, context.nowMs());
  if (problem !== undefined) throw problem;
  const stale = versionProblem(answer, key, options.version, is.sizeBytes);
  if (stale !== undefined) throw stale;
  const found = fileAttributes(answer.headers, is.sizeBytes);
  // Where a weak version is confirmed by the strong form of its tag, it keeps the name it was asked for by.
  const attributes = options.version === undefined ? found : { ...found, version: options.version };
  context.traits.learnFrom(key, answer);
  assert(attributes.kind === 'file', 'only files are read');
  return attributes;
}

function wrongRange(answer: FinalHead, what: string): Error {
  const message = `The server sent another range than asked for of ${answer.url}: ${what}.`;
  return ebbError('EIO', message, { retryable: true });
}
