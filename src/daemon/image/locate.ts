/** Where a remote image is: the remote's directory and the name in it. */
import { ebbError } from '../../base/errors.ts';
import { decodePathParameter } from '../../base/percent.ts';

export interface ImageLocation {
  readonly directory: string;
  readonly key: string;
}

/** Throws EISDIR, and EOPNOTSUPP for URLs with a query. */
export function locateImage(source: string): ImageLocation {
  const url = new URL(source);
  const at = url.pathname.lastIndexOf('/') + 1;
  const key = decodePathParameter(url.pathname.slice(at));
  if (key === '') throw ebbError('EISDIR', `${url.origin}${url.pathname} names no file.`);
  if (url.search !== '') {
    throw ebbError('EOPNOTSUPP', 'URLs with a query (?...) cannot be read as images.');
  }
  url.pathname = url.pathname.slice(0, at);
  url.hash = '';
  return { directory: url.href, key };
}
