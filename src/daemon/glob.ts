/** Shell patterns of the control API: `*`, `?`, `[..]`, `\` within a name, `**` across directories. Pure. */
import { globMatcher } from '../base/glob.ts';

const anyDirectories = '**';

/**
 * A test of paths relative to the mount point. Patterns are case-sensitive; `*` and `**` match dotfiles, too: nothing
 * is hidden from a cache. `**` stands for any number of directories, at the end for everything below.
 */
export function globPathMatcher(pattern: string): (path: string) => boolean {
  const parts = pattern
    .split('/')
    .map((part) => (part === anyDirectories ? anyDirectories : globMatcher(part)));
  if (parts.at(-1) === anyDirectories) parts.push(() => true);
  return (path) => matches(parts, path.split('/'));
}

type Part = typeof anyDirectories | ((name: string) => boolean);

/** Only the last `**` needs to be tried again: what an earlier one took can be given to the later one. */
function matches(parts: readonly Part[], names: readonly string[]): boolean {
  let [part, at] = [0, 0];
  let [starPart, starAt] = [-1, 0];
  while (at < names.length) {
    const current = parts[part];
    if (current === anyDirectories) {
      [starPart, starAt] = [part, at];
      part += 1;
    } else if (current !== undefined && current(names[at] ?? '')) {
      part += 1;
      at += 1;
    } else if (starPart >= 0) {
      starAt += 1;
      [part, at] = [starPart + 1, starAt];
    } else {
      return false;
    }
  }
  while (parts[part] === anyDirectories) part += 1;
  return part === parts.length;
}

/** The leading directories of a pattern that hold no special character. */
export function fixedDirectory(glob: string): string {
  const parts = glob.split('/');
  const special = parts.findIndex((part) => /[*?[\\]/.test(part));
  return parts.slice(0, special < 0 ? parts.length - 1 : special).join('/');
}
