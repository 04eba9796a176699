/** One directory's listing, streamed: the page is parsed as it arrives, at the pace of the one who reads it. */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { ListingBatch } from '../remote.ts';
import { answerProblem } from './answer-checks.ts';
import type { FinalHead } from './http-client.ts';
import { listingParser } from './listing/listing-parser.ts';
import type { ListingParser } from './listing/listing-parser.ts';
import { headOf } from './stat.ts';
import type { RequestContext } from './stat.ts';
import type { BodyTarget } from './transport.ts';
import { listingBase, requestPath } from './url.ts';

const pieceBytes = 64 * 1024;
/** Kept for the next listings: to make one costs as much garbage collection as parsing a short listing. */
const piecesMax = 16;
const pieces: Uint8Array[] = [];
const accept = 'application/json, text/html;q=0.9, application/xhtml+xml;q=0.9, */*;q=0.1';

/** See `Remote.list`. */
export async function* listDirectory(
  context: RequestContext,
  key: string,
  signal: AbortSignal,
): AsyncGenerator<ListingBatch, void, undefined> {
  signal.throwIfAborted();
  const stop = new AbortController();
  const queue = new BatchQueue();
  const either = AbortSignal.any([signal, stop.signal]);
  const finished = fetchListing(context, key, queue, either).then(
    () => queue.end(undefined),
    (error: unknown) => queue.end(error ?? new Error('unknown')),
  );
  try {
    yield* queue.drain();
  } finally {
    stop.abort(new Error('Nobody reads this listing any more.'));
    queue.end(undefined);
    await finished;
  }
}

async function fetchListing(
  context: RequestContext,
  key: string,
  queue: BatchQueue,
  signal: AbortSignal,
): Promise<void> {
  const path = requestPath(context.basePath, key, true);
  const piece = pieces.pop() ?? new Uint8Array(pieceBytes);
  let parser: ListingParser | undefined;
  let missing: Error | undefined;
  const head = (answer: FinalHead): BodyTarget | undefined => {
    const problem = childInstead(answer, path) ?? listingProblem(answer, key, context.nowMs());
    if (problem?.code === 'ENOENT' && path !== '/') {
      missing = problem;
      return undefined;
    }
    if (problem !== undefined) throw problem;
    parser = listingParser(answer.url, answer.headers);
    return parseInto(parser, queue, piece);
  };
  const request = { method: 'GET', path, headers: { accept }, wants: 'listing' } as const;
  try {
    await context.client.send(request, { head }, signal);
  } finally {
    // Nothing is received into it any more (`Transport.send`).
    if (pieces.length < piecesMax) pieces.push(piece);
  }
  if (missing !== undefined) throw await fileInstead(context, key, missing, signal);
  const last = parser?.end();
  if (last !== undefined) await queue.put(last);
}

/** What servers look for in a directory before they list it, nginx also where it is a directory itself. */
const indexName = /^(?:index|default)(?:\.|$)/i;

/**
 * The error for an answer from a directory of that name in the one at `path`: its listing has other names, and those of
 * `path` would look deleted.
 */
function childInstead({ url, redirected }: FinalHead, path: string): EbbError | undefined {
  if (!redirected) return undefined;
  const asked = listingBase(new URL(url).origin + path).segments;
  const answered = listingBase(url).segments;
  const child = answered[asked.length] ?? '';
  const isChild =
    answered.length === asked.length + 1 && asked.every((name, at) => name === answered[at]);
  if (!isChild || !indexName.test(child)) return undefined;
  const message =
    `For ${path} the server answers with its directory ${child}, so it cannot be listed. ` +
    'Rename that directory there, or have the server look for other index pages.';
  return ebbError('EIO', message, { retryable: false, answered: true });
}

function listingProblem(
  answer: FinalHead,
  key: string,
  nowMs: number,
): ReturnType<typeof answerProblem> {
  if (answer.status === 200 && !new URL(answer.url).pathname.endsWith('/')) {
    return ebbError('ENOTDIR', `${key} is not a directory: the server redirects to ${answer.url}.`);
  }
  if (answer.status === 403) {
    const why = 'it may not list directories, or wants credentials';
    return ebbError('EACCES', `The server refuses to list ${answer.url} (403): ${why}.`);
  }
  // A page is what is expected here, so none is suspected of being a login.
  return answerProblem(answer, 'index.html', [200], nowMs);
}

/** `FILE/` is not found with most servers: tells ENOTDIR from ENOENT. */
async function fileInstead(
  context: RequestContext,
  key: string,
  missing: Error,
  signal: AbortSignal,
): Promise<Error> {
  const isRoot = key === '';
  const path = isRoot ? context.basePath.slice(0, -1) : requestPath(context.basePath, key, false);
  const head = await headOf(context.client, { method: 'HEAD', path }, signal);
  if (head.status !== 200) return missing;
  return ebbError('ENOTDIR', `${isRoot ? head.url : key} is a file, not a directory.`);
}

function parseInto(parser: ListingParser, queue: BatchQueue, piece: Uint8Array): BodyTarget {
  return {
    buffer: () => piece,
    filled: (countBytes) => queue.put(parser.write(piece.subarray(0, countBytes))),
  };
}

/** Objects that may wait for the one who reads; a short listing need not be stopped while it comes. */
const heldMax = 256;

/** Hands batches from the one that receives to the one that reads; what has come waits as one batch. */
class BatchQueue {
  #batch: ListingBatch | undefined;
  #ended = false;
  #error: unknown;
  #batchCame: (() => void) | undefined;
  #batchTaken: (() => void) | undefined;

  /** Gives a promise when enough waits: wait, too. */
  put(batch: ListingBatch): void | Promise<void> {
    if (batch.objects.length === 0 && batch.skipped.length === 0) return undefined;
    if (this.#ended) return undefined;
    const before = this.#batch;
    this.#batch =
      before === undefined
        ? batch
        : {
            objects: [...before.objects, ...batch.objects],
            skipped: [...before.skipped, ...batch.skipped],
          };
    this.#batchCame?.();
    if (this.#batch.objects.length + this.#batch.skipped.length < heldMax) return undefined;
    return new Promise((resolve) => {
      this.#batchTaken = resolve;
    });
  }

  end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#batchCame?.();
    this.#batchTaken?.();
  }

  async *drain(): AsyncGenerator<ListingBatch, void, undefined> {
    while (true) {
      const batch = this.#batch;
      if (batch !== undefined) {
        this.#batch = undefined;
        this.#batchTaken?.();
        yield batch;
      } else if (this.#ended) break;
      else {
        await new Promise<void>((resolve) => {
          this.#batchCame = resolve;
        });
      }
    }
    if (this.#error !== undefined) throw this.#error;
  }
}
