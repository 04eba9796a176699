/**
 * What clients may ask: validation of bodies and queries before a handler sees them. Paths come out normalized;
 * what leaves the mount (`..`) or names nothing (`\0`) is refused with EINVAL and a sentence.
 */
import type { IncomingMessage } from 'node:http';
import * as v from 'valibot';
import type { DetachRequest, HandleRequest, PathsRequest } from '../api.ts';
import { ebbError } from '../../base/errors.ts';
import { decodePathParameter } from '../../base/percent.ts';
import type { DuRequest, LogRequest, LsRequest } from './handlers.ts';

/** A request body above this is refused with EMSGSIZE; the CLI sends long lists in several requests. */
export const requestBodyMaxBytes = 16 * 1024 * 1024;
/** PATH_MAX is 4,096; paths below a mount can be longer than what one system call takes. */
const pathMaxLength = 65_536;
const pathsMax = 100_000;
const globsMax = 1_000;
const logLinesMax = 100_000;
const logLinesDefault = 100;

const text = v.pipe(v.string(), v.maxLength(pathMaxLength));

const pathsSchema = v.strictObject({
  paths: v.pipe(v.array(text), v.maxLength(pathsMax)),
  globs: v.optional(v.pipe(v.array(text), v.maxLength(globsMax))),
  dryRun: v.optional(v.boolean()),
});

const detachSchema = v.strictObject({ recall: v.boolean() });
const handleSchema = v.strictObject({ path: text });
const stopSchema = v.strictObject({ lazy: v.optional(v.boolean(), false) });

/** Normalizes a path relative to the mount point; throws EINVAL when it cannot be one. */
export function normalizePath(path: string): string {
  if (path.includes('\0')) throw ebbError('EINVAL', 'A path must not contain a NUL byte.');
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) {
    throw ebbError(
      'EINVAL',
      `The path ${path} must not contain "..": it is relative to the mount.`,
    );
  }
  return parts.join('/');
}

/** This and the next three reject with EINVAL for what is not such a request, EMSGSIZE above `requestBodyMaxBytes`. */
export async function readPathsRequest(message: IncomingMessage): Promise<PathsRequest> {
  const request = validate(pathsSchema, await readJson(message));
  return {
    paths: request.paths.map(normalizePath),
    globs: (request.globs ?? []).map(normalizePath),
    dryRun: request.dryRun ?? false,
  };
}

export async function readStopRequest(
  message: IncomingMessage,
): Promise<{ readonly lazy: boolean }> {
  return validate(stopSchema, await readJson(message));
}

export async function readHandleRequest(message: IncomingMessage): Promise<HandleRequest> {
  const { path } = validate(handleSchema, await readJson(message));
  return { path: normalizePath(path) };
}

export async function readDetachRequest(message: IncomingMessage): Promise<DetachRequest> {
  return validate(detachSchema, await readJson(message));
}

/** The parameters of a query string, still percent-encoded. Unknown names are ignored. */
export type Query = ReadonlyMap<string, string>;

/** Of a name that comes twice the last one counts. */
export function parseQuery(query: string): Query {
  const parameters = new Map<string, string>();
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals > 0) parameters.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  return parameters;
}

/** Relative to the mount; `path` is missing: the mount itself. This and the next three throw EINVAL. */
export function pathOf(query: Query): string {
  return normalizePath(decodePathParameter(query.get('path') ?? ''));
}

export function lsRequestOf(query: Query): LsRequest {
  const recursive = query.get('recursive') === '1';
  const self = query.get('self') === '1';
  if (recursive && self) {
    throw ebbError('EINVAL', 'Ask for "recursive" or for "self", not for both.');
  }
  const [deep, brief] = [query.get('deep') === '1', query.get('brief') === '1'];
  return { path: pathOf(query), recursive, self, deep, brief };
}

export function duRequestOf(query: Query): DuRequest {
  return { path: pathOf(query), deep: query.get('deep') === '1' };
}

export function logRequestOf(query: Query): LogRequest {
  const raw = query.get('lines');
  const lines = raw === undefined ? logLinesDefault : Number(raw);
  if (!Number.isInteger(lines) || lines < 0 || lines > logLinesMax) {
    throw ebbError('EINVAL', `"lines" must be a whole number from 0 to ${logLinesMax}.`);
  }
  return { follow: query.get('follow') === '1', lines };
}

function validate<Output>(schema: v.GenericSchema<unknown, Output>, value: unknown): Output {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const where = v.getDotPath(issue) ?? 'the body';
  throw ebbError('EINVAL', `The request is not valid at ${where}: ${issue.message}`);
}

async function readJson(message: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > requestBodyMaxBytes) {
      throw ebbError('EMSGSIZE', `The request is longer than ${requestBodyMaxBytes} bytes.`);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw ebbError('EINVAL', 'The request body is not JSON.', { cause: error });
  }
}
