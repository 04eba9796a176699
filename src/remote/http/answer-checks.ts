/** Checks that every answer about an object must pass before anything in it is believed. Pure. */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { field, isHtml, isNamedLikeHtml, listField, matchVersion } from './attributes.ts';
import type { HeaderFields } from './attributes.ts';
import { statusError } from './errors.ts';
import type { FinalHead } from './http-client.ts';

/** Endings of names whose stored bytes are an encoding, as `AddEncoding x-gzip .gz` labels them. */
const storedEncodings: Readonly<Record<string, RegExp>> = {
  gzip: /\.(?:gz|tgz|svgz)$/i,
  'x-gzip': /\.(?:gz|tgz|svgz)$/i,
  compress: /\.(?:z|taz)$/i,
  'x-compress': /\.(?:z|taz)$/i,
  br: /\.br$/i,
  zstd: /\.(?:zst|tzst)$/i,
  bzip2: /\.(?:bz2|tbz2?)$/i,
  'x-bzip2': /\.(?:bz2|tbz2?)$/i,
  xz: /\.(?:xz|txz)$/i,
  'x-xz': /\.(?:xz|txz)$/i,
};

/**
 * The error of an answer that is no success, or is one but not the object's own bytes: an encoding that was not
 * asked for, a login page behind a redirect. Undefined when the answer may be believed. `allowed`: the statuses that
 * the caller handles.
 */
export function answerProblem(
  head: FinalHead,
  key: string,
  allowed: readonly number[],
  nowMs: number,
): EbbError | undefined {
  const { status, headers, url } = head;
  if (!allowed.includes(status)) {
    const error = statusError(status, headers, url, nowMs);
    if (!head.credentialsWithheld || error.code !== 'EACCES') return error;
    const { origin } = new URL(url);
    const message =
      `The server redirects to ${origin}, which wants credentials (${status}). They are sent to ` +
      'the given origin only; if this one may know them, mount that URL.';
    return ebbError('EACCES', message);
  }
  const coded = codingProblem(head, key);
  if (coded !== undefined) return coded;
  const isStored = isNamedLikeHtml(key) && hasValidator(headers);
  if (head.redirected && isHtml(headers) && !isStored) {
    const message = `${key} was redirected to a web page (${url}): probably a login page.`;
    return ebbError('EACCES', message);
  }
  if (isHtml(headers) && !isNamedLikeHtml(key) && !hasValidator(headers)) {
    // Stored files come with a time or a tag; pages that programs write (errors, log-ins) come with neither.
    const message = `The server sent a web page without a version where ${url} was asked for.`;
    return ebbError('EIO', message, { retryable: true, answered: true });
  }
  return undefined;
}

/** Codings that were not asked for: what comes would be bytes of something else. */
function codingProblem({ headers, url }: FinalHead, key: string): EbbError | undefined {
  const contentCodings = listField(headers, 'content-encoding');
  const [first = 'identity', ...more] = contentCodings;
  const isStored = storedEncodings[first]?.test(key) ?? false;
  if (more.length > 0 || (first !== 'identity' && !isStored)) {
    const codings = contentCodings.join(', ');
    const message = `${url} came encoded (${codings}) though the plain bytes were asked for.`;
    return ebbError('EIO', message);
  }
  // The transports take chunks off, and nothing else.
  const transferCodings = listField(headers, 'transfer-encoding').join(', ');
  if (transferCodings === '' || transferCodings === 'chunked') return undefined;
  const message = `${url} came with a Transfer-Encoding (${transferCodings}) that nobody asked for.`;
  return ebbError('EIO', message);
}

function hasValidator(headers: HeaderFields): boolean {
  return field(headers, 'etag') !== undefined || field(headers, 'last-modified') !== undefined;
}

/**
 * Compares the version of an answer with the one asked for. ESTALE only when the answer holds the evidence that
 * it is another one; without, or when it is a web page where none is expected, it proves nothing: EIO.
 */
export function versionProblem(
  head: FinalHead,
  key: string,
  expected: string | undefined,
  sizeBytes: number | undefined,
): EbbError | undefined {
  if (expected === undefined) return undefined;
  const match = matchVersion(expected, head.headers, sizeBytes);
  if (match === 'same') return undefined;
  const unexpectedPage = isHtml(head.headers) && !isNamedLikeHtml(key);
  if (match === 'other' && !unexpectedPage) {
    return ebbError('ESTALE', `${head.url} has another version now.`);
  }
  const what = unexpectedPage ? 'a web page' : 'an answer without the version';
  const message = `The server sent ${what} where ${head.url} was asked for.`;
  return ebbError('EIO', message, { retryable: true, answered: true });
}
