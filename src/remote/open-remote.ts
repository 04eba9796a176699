/**
 * From what the user wrote to a remote that is safe to use: the right kind, wrapped as
 * `checked(retry(checked(limit(trace(remote)))))`.
 *
 * The inner check turns a remote's mistake (a body that ended early without an error) into a
 * failure that the retry can repair; the outer check guards what the retry puts together from
 * several tries.
 */
import { fileURLToPath } from 'node:url';
import { ebbError } from '../base/errors.ts';
import { formatDuration } from '../base/format.ts';
import { isHttpUrl } from '../base/http-url.ts';
import { checkedRemote } from './checked.ts';
import { openDirectoryRemote } from './dir/dir-remote.ts';
import type { DirectoryRemoteOptions } from './dir/dir-remote.ts';
import { openHttpRemote } from './http/http-remote.ts';
import type { HttpRemoteOptions } from './http/options.ts';
import { limitedRemote, spareRequests } from './limit.ts';
import type { Remote } from './remote.ts';
import { retryingRemote } from './retry.ts';
import type { RetryOptions } from './retry.ts';
import { tracedRemote } from './trace.ts';
import type { RequestTrace } from './trace.ts';

const requestsMaxDefault = 16;

export interface RemoteOptions extends Omit<HttpRemoteOptions, 'url'>, DirectoryRemoteOptions {
  /** `http://` or `https://` URL, `file://` URL, or the absolute path of a directory. */
  readonly url: string;
  /** Tries after the first one. 0 <= retries. Default 4. */
  readonly retries?: number;
  /** Pauses between tries, see retry.ts. */
  readonly retryPauses?: Pick<RetryOptions, 'baseMs' | 'maxMs' | 'retryAfterMaxMs'>;
  /** Content bytes per second over all reads. 0 < limitBytesPerSecond. Default: no limit. */
  readonly limitBytesPerSecond?: number;
  /** Called with a sentence before each pause. */
  readonly onRetry?: (message: string) => void;
  /** Called after each request to the remote itself (retries are requests of their own). */
  readonly onRequest?: (trace: RequestTrace) => void;
}

/**
 * Opens a remote of the kind that the URL says. `connections` (default 16) is also how many
 * requests are under way at a time. Throws EINVAL for what is no such URL, ENOENT/ENOTDIR/EACCES
 * for a directory that cannot be opened; does not talk to a web server yet.
 */
export async function openRemote(options: RemoteOptions): Promise<Remote> {
  const { onRequest, onRetry, retries, connections = requestsMaxDefault } = options;
  const bare = await openBare({ ...options, connections, spareConnections: spareRequests });
  const traced = onRequest === undefined ? bare : tracedRemote(bare, { onRequest });
  const limited = limitedRemote(traced, {
    requestsMax: connections,
    bytesPerSecond: options.limitBytesPerSecond,
  });
  // The retry lets each name through once, so that no other has to remember them.
  const retrying = retryingRemote(checkedRemote(limited, { checksRepeats: false }), {
    ...options.retryPauses,
    ...(retries === undefined ? {} : { attemptsMax: retries + 1 }),
    onRetry: (key, error, attempt, pauseMs) =>
      onRetry?.(
        `${key === '' ? 'the root' : key}: try ${attempt} failed (${error.code}: ${error.message}); ` +
          `the next one in ${formatDuration(pauseMs)}`,
      ),
  });
  return checkedRemote(retrying, { checksRepeats: false });
}

function openBare(options: RemoteOptions): Promise<Remote> {
  const { url } = options;
  if (isHttpUrl(url)) return openHttpRemote(options);
  if (/^file:\/\//i.test(url)) return openDirectoryRemote(pathOfFileUrl(url), options);
  if (url.startsWith('/')) return openDirectoryRemote(url, options);
  throw ebbError(
    'EINVAL',
    'A remote is an http:// or https:// URL, a file:// URL, or the absolute path of a directory.',
  );
}

function pathOfFileUrl(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw ebbError('EINVAL', `${url} names no directory of this machine.`, { cause: error });
  }
}
