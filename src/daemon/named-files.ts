/** What the paths and patterns of a request stand for: the same for mounts and trees. */
import type { PathsRequest } from './api.ts';

/**
 * All that a request names and `isWanted` lets through, in its order. What of it cannot be found or listed is told to
 * `onMissing`, and the others follow. Throws when `signal` fires.
 */
export async function* namedFiles<Entry>(
  { paths, globs = [] }: PathsRequest,
  find: {
    readonly atPath: (path: string) => AsyncIterable<Entry>;
    readonly matching: (glob: string) => AsyncIterable<Entry>;
    readonly isWanted: (entry: Entry) => boolean;
  },
  signal: AbortSignal,
  onMissing: (named: string, thrown: unknown) => void,
): AsyncGenerator<Entry> {
  const named = [
    ...paths.map((path) => [path, find.atPath(path)] as const),
    ...globs.map((glob) => [glob, find.matching(glob)] as const),
  ];
  for (const [name, entries] of named) {
    try {
      for await (const entry of entries) if (find.isWanted(entry)) yield entry;
    } catch (thrown) {
      signal.throwIfAborted();
      onMissing(name, thrown);
    }
  }
}
