/**
 * lighttpd mod_dirlisting: a table with the summary `Directory Listing`; date to the second in the server's
 * local time (untrusted, hence rounded), size always rounded to tenths of a unit.
 */
import { leadingDate } from './family.ts';
import type { ListingFamily } from './family.ts';

export const lighttpd: ListingFamily = {
  name: 'lighttpd',
  recognises: (page, container) =>
    container.element === 'table' &&
    container.attributes['summary'] === 'Directory Listing' &&
    page.title.startsWith('Index of '),
  facts(row) {
    const { roundedMtime } = leadingDate(row.tail.replace(/^\/?\s*/, ''));
    return roundedMtime === undefined ? {} : { roundedMtime };
  },
};
