/** Images on web servers: what comes of them are ranges, of one version. */
import { ebbError } from '../../base/errors.ts';
import type { Remote } from '../../remote/remote.ts';

/** Of an image. Throws EOPNOTSUPP: one that somebody has written to is as long as before, so a size is no version. */
export function requireVersion(version: string | undefined): string {
  if (version !== undefined) return version;
  const why = 'gives neither ETag nor Last-Modified, so nobody would notice that it changes';
  throw ebbError('EOPNOTSUPP', `The server ${why}: download the image.`);
}

/** The remote without whole reads: recalling a whole image because a server ignores ranges is never meant. */
export function rangesOnly(remote: Remote): Remote {
  return {
    kind: remote.kind,
    displayName: remote.displayName,
    // Otherwise the engine would plan to read from 0 on.
    supportsRanges: true,
    list: (key, options) => remote.list(key, options),
    stat: (key, options) => remote.stat(key, options),
    read: (key, sink, options) =>
      options.lengthBytes === undefined || !remote.supportsRanges
        ? Promise.reject(
            ebbError(
              'EOPNOTSUPP',
              'The server does not give ranges of a file: download the image.',
            ),
          )
        : remote.read(key, sink, options),
    close: () => remote.close(),
  };
}
