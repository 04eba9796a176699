/** Picks the parser for an answer: HTML or JSON by media type. Everything else is no listing. */
import { ebbError } from '../../../base/errors.ts';
import type { ListingBatch } from '../../remote.ts';
import { field, isHtml, mediaType } from '../attributes.ts';
import type { HeaderFields } from '../attributes.ts';
import { listingBase } from '../url.ts';
import { namesNext, partialListing } from './further-pages.ts';
import { HtmlListing } from './html-listing.ts';
import { JsonListing } from './json-listing.ts';
import { streamDecoder } from './text-decoder.ts';

const listingBytesMax = 1024 * 1024 * 1024;

export interface ListingParser {
  /** Takes the next bytes; they may be reused afterwards. Gives what is certain by now. */
  write(bytes: Uint8Array): ListingBatch;
  /** All bytes came. Throws ENOTDIR (no listing) or EIO (cut, or a part). */
  end(): ListingBatch;
}

/** A parser for the answer that came from `url` (final, after redirects). Throws ENOTDIR by media type. */
export function listingParser(url: string, headers: HeaderFields): ListingParser {
  const base = listingBase(url);
  const listing = pick(url, headers, base);
  const hasNext = namesNext(headers['link']);
  const decoder = streamDecoder(field(headers, 'content-type'));
  let countBytes = 0;
  return {
    write(bytes) {
      countBytes += bytes.length;
      if (countBytes > listingBytesMax) {
        throw ebbError('EOVERFLOW', `The listing ${url} is longer than ${listingBytesMax} bytes.`);
      }
      return listing.write(decoder.write(bytes));
    },
    end() {
      const first = listing.write(decoder.end());
      const last = listing.end();
      if (hasNext) throw partialListing(url, 'the server names a next page (Link: rel=next)');
      return {
        objects: [...first.objects, ...last.objects],
        skipped: [...first.skipped, ...last.skipped],
      };
    },
  };
}

function pick(
  url: string,
  headers: HeaderFields,
  base: ReturnType<typeof listingBase>,
): HtmlListing | JsonListing {
  const type = mediaType(headers);
  if (isHtml(headers)) return new HtmlListing(base, url);
  if (type === 'application/json') return new JsonListing(base, url);
  const sent = type === '' ? 'something without a type' : type;
  throw ebbError('ENOTDIR', `${url} is not a directory listing: the server sent ${sent}.`);
}
