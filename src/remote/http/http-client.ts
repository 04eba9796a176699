/**
 * Requests to the remote with the rules that always hold: what is asked for (identity encoding), who may know the
 * credentials (the remote's own origin only), which redirects are followed, what network failures mean.
 */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { field } from './attributes.ts';
import { networkError } from './errors.ts';
import type { HttpTarget } from './options.ts';
import type { AnswerHead, BodyTarget, Transport } from './transport.ts';
import { decodeSegment } from './url.ts';

const redirectsMax = 5;
const redirectStatuses = new Set([301, 302, 303, 307, 308]);

export interface ClientRequest {
  readonly method: 'GET' | 'HEAD';
  /** Raw path below the remote's origin. */
  readonly path: string;
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Of a GET: which of them may take the fast lane, as a HEAD may. */
  readonly wants?: 'content' | 'listing';
}

/** The head of the last answer of a chain of redirects. */
export interface FinalHead extends AnswerHead {
  /** Absolute, without credentials. */
  readonly url: string;
  readonly redirected: boolean;
  /**
   * The server redirected to the same path with a slash at the end, which is how it says "a directory". Such a
   * redirect is not followed; `status` is its own.
   */
  readonly namesDirectory: boolean;
  /** Credentials were held back because a redirect led to another origin. */
  readonly credentialsWithheld: boolean;
}

export interface FinalReceiver {
  /** As in `AnswerReceiver`. */
  head(head: FinalHead): BodyTarget | undefined;
}

export interface ClientTransports {
  /** For the remote's own origin; presents the client certificate. */
  readonly own: Transport;
  /** For HEADs, content and listings from the remote's own origin. */
  readonly ranges: Transport;
  /** For other origins that redirects lead to; knows no secrets and verifies certificates. */
  readonly foreign: Transport;
}

export class HttpClient {
  readonly #target: HttpTarget;
  readonly #transports: ClientTransports;

  constructor(target: HttpTarget, transports: ClientTransports) {
    this.#target = target;
    this.#transports = transports;
  }

  /**
   * Sends one request and follows redirects. Rejects with what the receiver threw, the signal's reason, or
   * an `EbbError`: network failures as in errors.ts, ELOOP (too many redirects), EACCES (a redirect that leaves TLS),
   * EIO (a redirect to nowhere).
   */
  async send(request: ClientRequest, receiver: FinalReceiver, signal: AbortSignal): Promise<void> {
    let url = new URL(this.#target.origin + request.path);
    // What goes into the request line is never normalised: `%2e` and the like are names here.
    let path = request.path;
    for (let redirects = 0; redirects <= redirectsMax; redirects += 1) {
      const next = await this.#hop(request, { url, path, redirects }, receiver, signal);
      if (next === undefined) return;
      url = next;
      path = next.pathname + next.search;
    }
    const shown = displayUrl(this.#target.origin + request.path);
    throw ebbError('ELOOP', `More than ${redirectsMax} redirects for ${shown}.`);
  }

  async close(): Promise<void> {
    const { own, ranges, foreign } = this.#transports;
    await Promise.all(Array.from(new Set([own, ranges, foreign]), (one) => one.close()));
  }

  async #hop(
    request: ClientRequest,
    at: { readonly url: URL; readonly path: string; readonly redirects: number },
    receiver: FinalReceiver,
    signal: AbortSignal,
  ): Promise<URL | undefined> {
    const { origin } = at.url;
    const own = origin === this.#target.origin;
    let next: URL | undefined;
    const head = (answer: AnswerHead): BodyTarget | undefined => {
      const location = redirectTarget(answer, at.url);
      const namesDirectory = location !== undefined && addsSlash(at.path, location);
      if (location !== undefined && !namesDirectory) {
        next = location;
        return undefined;
      }
      const url = displayUrl(origin + at.path);
      const redirected = at.redirects > 0;
      return receiver.head({
        ...answer,
        url,
        redirected,
        namesDirectory,
        credentialsWithheld: !own && this.#hasCredentials,
      });
    };
    const headers = { ...this.#headers(own), ...request.headers };
    try {
      const { method } = request;
      await this.#transport(own, request).send(
        { method, origin, path: at.path, headers, mayBeChunked: request.wants === 'listing' },
        { head },
        signal,
      );
    } catch (error) {
      signal.throwIfAborted();
      throw networkError(error, at.url.host);
    }
    return next;
  }

  #transport(own: boolean, request: ClientRequest): Transport {
    if (!own) return this.#transports.foreign;
    const simple = request.method === 'HEAD' || request.wants !== undefined;
    return simple ? this.#transports.ranges : this.#transports.own;
  }

  #headers(own: boolean): Record<string, string> {
    return {
      accept: '*/*',
      'accept-encoding': 'identity',
      'user-agent': 'ebb',
      ...(own ? this.#target.privateHeaders : {}),
    };
  }

  get #hasCredentials(): boolean {
    return Object.keys(this.#target.privateHeaders).length > 0;
  }
}

/** A URL for messages: no credentials, no query (which may be a signature). */
export function displayUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}

/** Where a redirect leads; undefined when the answer is none. */
function redirectTarget(answer: AnswerHead, from: URL): URL | undefined {
  if (!redirectStatuses.has(answer.status)) return undefined;
  const location = field(answer.headers, 'location');
  if (location === undefined || !URL.canParse(location, from.href)) throw badRedirect(from);
  const to = new URL(location, from);
  to.username = '';
  to.password = '';
  to.hash = '';
  if (to.protocol !== 'http:' && to.protocol !== 'https:') throw badRedirect(from);
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    const message = `${displayUrl(from.href)} redirects from https to plain http: not followed.`;
    throw ebbError('EACCES', message);
  }
  return to;
}

function badRedirect(from: URL): EbbError {
  return ebbError('EIO', `${displayUrl(from.href)} redirects to nowhere.`);
}

function addsSlash(path: string, location: URL): boolean {
  if (path.endsWith('/') || location.search !== '') return false;
  const decode = (text: string): string => text.split('/').map(decodeSegment).join('/');
  return decode(location.pathname) === decode(`${path}/`);
}
