/**
 * Any other page that says it is a listing: IIS, Jetty, Tomcat, webfs and many more. It must say so in its title
 * or heading, must not have forms, frames or scripts of its own, and every link to the same origin must be an
 * entry, a parent or a link that sorts; one stray link and it is a web page. Therefore nothing is known before
 * the page has ended. Only names and directories are taken.
 */
import type { Page } from './family.ts';

const marker =
  /^(?:index of|(?:directory |folder )?listing (?:of|for)|directory:|contents of)\s*\S/i;
const markerWithHost = /^[\w.:[\]-]+ - \//;

export interface GenericEvidence {
  readonly page: Page;
  /** Forms, inputs, frames, scripts from elsewhere, refreshes, `<base>`. */
  readonly hasForeignElements: boolean;
  /** Links to the same origin that are neither entries nor parents nor sort. */
  readonly strayLinks: number;
  /** Links to entries, to the directory itself or above. */
  readonly listingLinks: number;
}

/** Whether the whole page was a listing. */
export function isGenericListing(evidence: GenericEvidence): boolean {
  const { page, hasForeignElements, strayLinks, listingLinks } = evidence;
  if (hasForeignElements || strayLinks > 0 || listingLinks === 0) return false;
  return [page.title, page.heading].some(
    (text) => marker.test(text.trim()) || markerWithHost.test(text.trim()),
  );
}
