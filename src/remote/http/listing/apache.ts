/**
 * Apache mod_autoindex in its three forms: `<pre>` (FancyIndexing), `<table>` (HTMLTable) and `<ul>` (plain).
 * The first two begin with links that sort (`?C=N;O=D`), which is what tells the listing from the tables and
 * lists of a HeaderName document. Dates are the server's local time to the minute; sizes below 1000 have no
 * unit and are exact. Descriptions may follow, so the size is the first word after the date.
 */
import { exactSize, leadingDate } from './family.ts';
import type { Container, ListingFamily, Page, Row } from './family.ts';

const sortLink = /^\?(?:C=[NMSD][;&]O=[AD]|[NMSD]=[AD])$/;

function isPlain(page: Page, container: Container, first: Row | undefined): boolean {
  if (container.element !== 'ul') return false;
  if (!page.title.startsWith('Index of ') || page.heading !== page.title) return false;
  return first === undefined || first.text.startsWith(' ');
}

export const apache: ListingFamily = {
  name: 'apache',
  recognises(page, container, first) {
    if (isPlain(page, container, first)) return true;
    if (container.element !== 'pre' && container.element !== 'table') return false;
    if (first === undefined) return false;
    if (sortLink.test(first.href)) return true;
    // SuppressColumnSorting leaves no link in the head of the table.
    const suppressed = first.target.is === 'above' && first.text === 'Parent Directory';
    return suppressed && page.title.startsWith('Index of ') && page.heading === page.title;
  },
  facts(row) {
    const { roundedMtime, rest } = leadingDate(row.tail);
    if (roundedMtime === undefined) return {};
    return { roundedMtime, ...exactSize(/^\s*(\S+)/.exec(rest)?.[1]) };
  },
};
