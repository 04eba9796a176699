/**
 * Attributes of one object. HEAD first; servers that refuse it, leave out the length or claim an empty body are
 * asked for one byte (`Range: bytes=0-0`), whose Content-Range tells the size. That a body is empty is never believed
 * of HEAD alone: what programs answer may have lost its body on the way, beside files whose lengths are told right.
 */
import { fileAttributes, field, parseContentRange, parseLength } from './attributes.ts';
import { answerProblem } from './answer-checks.ts';
import type { ClientRequest, FinalHead, HttpClient } from './http-client.ts';
import type { ObjectAttributes } from '../remote.ts';
import type { ServerTraits } from './server-traits.ts';
import { requestPath } from './url.ts';

/** Servers answer these to HEAD although they would serve a GET. 404 and 401 are believed. */
const headRefusedStatuses = new Set([400, 403, 405, 500, 501]);

/** What every call of a remote has in common. */
export interface RequestContext {
  readonly client: HttpClient;
  /** See `HttpTarget.basePath`. */
  readonly basePath: string;
  readonly traits: ServerTraits;
  nowMs(): number;
}

/** See `Remote.stat`. */
export async function statObject(
  context: RequestContext,
  key: string,
  signal: AbortSignal,
): Promise<ObjectAttributes> {
  const path = requestPath(context.basePath, key, false);
  const head = await headOf(context.client, { method: 'HEAD', path }, signal);
  if (isDirectory(head, key)) return { kind: 'directory' };
  let fromHead: ObjectAttributes | undefined;
  if (!headRefusedStatuses.has(head.status)) {
    check(context, head, key, [200]);
    const sizeBytes = contentLength(head);
    fromHead = fileAttributes(head.headers, sizeBytes);
    if (sizeBytes !== undefined && sizeBytes > 0) return fromHead;
  }
  return probeObject(context, key, path, fromHead, signal);
}

/** Asks for the first byte. `fromHead`: what HEAD said, if it said anything. */
async function probeObject(
  context: RequestContext,
  key: string,
  path: string,
  fromHead: ObjectAttributes | undefined,
  signal: AbortSignal,
): Promise<ObjectAttributes> {
  const range = { range: 'bytes=0-0' };
  const probe = await headOf(context.client, { method: 'GET', path, headers: range }, signal);
  if (isDirectory(probe, key)) return { kind: 'directory' };
  if (probe.status === 416) {
    // An empty file has no first byte, and few servers put the validators into a 416.
    const saysEmpty = field(probe.headers, 'content-range')?.toLowerCase() === 'bytes */0';
    if (saysEmpty && fromHead?.sizeBytes === 0) return fromHead;
    const plain = await headOf(context.client, { method: 'GET', path }, signal);
    check(context, plain, key, [200]);
    return fileAttributes(plain.headers, contentLength(plain));
  }
  check(context, probe, key, [200, 206]);
  if (probe.status === 200) return fileAttributes(probe.headers, contentLength(probe));
  const contentRange = parseContentRange(field(probe.headers, 'content-range'));
  return fileAttributes(probe.headers, contentRange?.totalBytes);
}

function isDirectory(head: FinalHead, key: string): boolean {
  return head.namesDirectory || (key === '' && head.status === 200);
}

function contentLength(head: FinalHead): number | undefined {
  return parseLength(field(head.headers, 'content-length'));
}

function check(
  context: RequestContext,
  head: FinalHead,
  key: string,
  allowed: readonly number[],
): void {
  const problem = answerProblem(head, key, allowed, context.nowMs());
  if (problem !== undefined) throw problem;
  context.traits.learnFrom(key, head);
}

/** The head of the answer; its body is not read. */
export async function headOf(
  client: HttpClient,
  request: ClientRequest,
  signal: AbortSignal,
): Promise<FinalHead> {
  let found: FinalHead | undefined;
  const receiver = {
    head(head: FinalHead): undefined {
      found = head;
    },
  };
  await client.send(request, receiver, signal);
  if (found === undefined) throw new Error('an answer without a head');
  return found;
}
