/** `ebb release` of a whole tree, again and again, as a background to other work. */
import type { AttachedTree } from './attached-tree.ts';

/** What `ebb release --json` says in its last line that it has released. */
export function releasedFiles(output: string): number {
  const last = output.trim().split('\n').at(-1) ?? '{}';
  const result = JSON.parse(last === '' ? '{}' : last) as { ok?: number; done?: { ok?: number } };
  return result.done?.ok ?? result.ok ?? 0;
}

/** Until `isOver`, or nobody answers any more. Resolves to how many files were released, as far as that was said. */
export async function releaseAgainAndAgain(
  tree: AttachedTree,
  isOver: () => boolean,
): Promise<number> {
  let released = 0;
  while (!isOver()) {
    const { stdout } = await tree.ebb(['release', '--json', tree.path]);
    released += releasedFiles(stdout.toString());
  }
  return released;
}
