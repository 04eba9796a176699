/**
 * The shape of a server family: how its page is recognised and what the text beside a link says. The names
 * come from the links alone (page-scanner.ts, ../url.ts): display texts are cut, padded and decorated.
 */
import type { Timestamp } from '../../remote.ts';
import { monthNames, timestampOf } from '../attributes.ts';
import type { LinkTarget } from '../url.ts';

/** An element that holds the entries: `pre`, `table` or `ul`. */
export interface Container {
  readonly element: string;
  readonly attributes: Readonly<Record<string, string>>;
}

export interface Row {
  readonly href: string;
  readonly target: LinkTarget;
  /** Text of the link, at most 1 KiB. */
  readonly text: string;
  /** Text from the end of the link to the end of the row; table cells are separated by tabs. At most 1 KiB. */
  readonly tail: string;
  /** `datetime` of a `<time>` in the row. */
  readonly datetime: string | undefined;
}

/** What is known of the page so far. */
export interface Page {
  readonly title: string;
  /** The first `h1` or `h2`. */
  readonly heading: string;
}

export interface RowFacts {
  readonly sizeBytes?: number;
  readonly roundedMtime?: Timestamp;
}

export interface ListingFamily {
  readonly name: string;
  /** Whether this container, whose first row is `first` (undefined: it has none), is the listing. */
  recognises(page: Page, container: Container, first: Row | undefined): boolean;
  /** What the text beside a child's link says. */
  facts(row: Row): RowFacts;
}

/** `-` or a size; only digits alone are exact, with a unit it is rounded. */
export function exactSize(text: string | undefined): Pick<RowFacts, 'sizeBytes'> {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return {};
  const sizeBytes = Number(text);
  return Number.isSafeInteger(sizeBytes) ? { sizeBytes } : {};
}

const clock = String.raw`\s+(?<hour>\d{2}):(?<minute>\d{2})(?::(?<second>\d{2}))?(?=\s|$)`;
const dayFirst = new RegExp(
  String.raw`^\s*(?<day>\d{2})-(?<month>[A-Z][a-z]{2})-(?<year>\d{4})${clock}`,
);
const yearFirst = new RegExp(
  String.raw`^\s*(?<year>\d{4})-(?<month>\d{2}|[A-Z][a-z]{2})-(?<day>\d{2})${clock}`,
);

/** `04-Mar-2021 05:06`, `2021-Mar-04 05:06:07` or `2021-03-04 05:06`, taken as UTC, at the start of `text`. */
export function leadingDate(text: string): { roundedMtime?: Timestamp; rest: string } {
  const match = dayFirst.exec(text) ?? yearFirst.exec(text);
  if (match?.groups === undefined) return { rest: text };
  const { year = '', month = '', day = '', hour = '', minute = '', second } = match.groups;
  const roundedMtime = timestampOf([year, monthName(month), day, hour, minute, second ?? '0']);
  const rest = text.slice(match[0].length);
  return roundedMtime === undefined ? { rest } : { roundedMtime, rest };
}

/** Numbers become names; names stay. */
function monthName(text: string): string {
  return /^\d+$/.test(text) ? (monthNames[Number(text) - 1] ?? '') : text;
}
