/**
 * Caddy's `file_server browse` page, and those made from the same template (`rclone serve http`). Only for
 * servers behind something that hides `Accept: application/json`; JSON (json-listing.ts) is what Caddy answers.
 * Sizes are rounded; of a symbolic link it shows the link's own, so nothing here is taken as exact.
 */
import type { ListingFamily } from './family.ts';

export const caddy: ListingFamily = {
  name: 'caddy',
  recognises: (_page, container) =>
    container.element === 'table' && container.attributes['aria-describedby'] === 'summary',
  facts(row) {
    const text = row.datetime?.trim() ?? '';
    const milliseconds = /^\d{4}-\d{2}-\d{2}T[\d:.]+(?:Z|[+-][\d:]+)$/.test(text)
      ? Date.parse(text)
      : Number.NaN;
    if (Number.isNaN(milliseconds)) return {};
    return { roundedMtime: { seconds: Math.floor(milliseconds / 1000), nanoseconds: 0 } };
  },
};
