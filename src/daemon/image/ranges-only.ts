/** A remote of which only ranges are read: recalling a whole image because a server ignores ranges is never meant. */
import { ebbError } from '../../base/errors.ts';
import type { Remote } from '../../remote/remote.ts';

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
