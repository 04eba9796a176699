/**
 * Python's `http.server`: title and heading `Directory listing for PATH`, then one `<ul>` of links and nothing
 * else. Bytes that are not UTF-8 arrive as escaped surrogates (`%ED%B3%A9`) and work as such.
 */
import type { ListingFamily } from './family.ts';

export const python: ListingFamily = {
  name: 'python',
  recognises: (page, container) =>
    container.element === 'ul' &&
    page.title.startsWith('Directory listing for ') &&
    page.heading === page.title,
  facts: () => ({}),
};
