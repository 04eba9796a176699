/** Flags of the two Nodes of a server. Compiled code is only good for a Node with the same ones. */

/** V8's heap, MiB; a parser's caches are bounded far below. */
const heapMib = 512;

/** Of enter.ts. */
export const launcherFlags: readonly string[] = ['--disable-warning=ExperimentalWarning'];

/** Of the server itself. */
export const serverFlags: readonly string[] = [
  '--no-addons',
  '--disallow-code-generation-from-strings',
  '--disable-warning=ExperimentalWarning',
  `--max-old-space-size=${heapMib}`,
];

/**
 * Compiled code in `directory`. Portable: neither its place nor the user is in the names there, and it is made in
 * another place by another user.
 */
export function codeCacheEnvironment(directory: string): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: directory, NODE_COMPILE_CACHE_PORTABLE: '1' };
}
