/** Shell patterns of the control API: `*`, `?`, `[..]` within a name, `**` across directories. Node's own matcher. */
import path from 'node:path';

/** Whether a path relative to the mount point matches. Patterns are case-sensitive; `*` matches dotfiles too. */
export function matchGlob(pattern: string, relativePath: string): boolean {
  return path.posix.matchesGlob(relativePath, pattern);
}
