/**
 * nginx, `autoindex_format html` (ngx_http_autoindex_module.c): title and heading `Index of PATH/`, then one
 * `<pre>` whose first link is `../`. Text is cut at 50 characters, the date is UTC (`autoindex_localtime`: the
 * server's zone) to the minute; a size of digits alone is exact whatever `autoindex_exact_size` says.
 */
import { exactSize, leadingDate } from './family.ts';
import type { ListingFamily } from './family.ts';

export const nginx: ListingFamily = {
  name: 'nginx',
  recognises: (page, container, first) =>
    container.element === 'pre' &&
    page.title.startsWith('Index of ') &&
    page.heading === page.title &&
    first?.href === '../',
  facts(row) {
    const { roundedMtime, rest } = leadingDate(row.tail);
    const size = exactSize(rest.trim());
    return roundedMtime === undefined ? {} : { roundedMtime, ...size };
  },
};
