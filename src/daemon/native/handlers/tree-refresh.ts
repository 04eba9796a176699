/** `ebb refresh` in a tree: brings in what has changed at the remote, directory by directory. */
import type { PopulateResult } from '../../../attach/populate.ts';
import { ebbError } from '../../../base/errors.ts';
import type { PathsRequest, RefreshChanges } from '../../api.ts';
import { Refusal } from '../../control/action-runner.ts';
import type { Action } from '../../control/handlers.ts';
import type { TreeParts } from '../tree-parts.ts';

/** Runs follow each other anyway (`Populator`). */
const concurrencyMax = 1;

export async function* refreshTree(
  parts: TreeParts,
  request: PathsRequest,
  signal: AbortSignal,
): Action {
  const { populator, logbook } = parts;
  const keys = await keysOf(parts, request, signal);
  return yield* parts.work.act(
    keys.map((path) => ({ path, sizeBytes: 0 })),
    {
      concurrencyMax,
      signal,
      work: async (work, stop) => {
        const { path } = work;
        if (request.dryRun === true) return undefined;
        const result = await populator.run({
          keys: [path],
          mode: 'refresh',
          isExposed: true,
          signal: stop,
        });
        logbook.log('info', `refreshed ${path === '' ? 'the tree' : path}`, countsOf(result));
        for (const { key, message } of result.reports) logbook.log('warn', `${key}: ${message}`);
        work.changes = changesOf(result);
        const failure = result.failures[0];
        if (failure !== undefined) {
          const more = result.failed > 1 ? ` (and ${result.failed - 1} more)` : '';
          // The directory itself is named by who shows this.
          const where = failure.key === path ? '' : `${failure.key}: `;
          throw ebbError('EIO', `${where}${failure.message}${more}`);
        }
        const { conflict, lost } = result.reported;
        if (conflict + lost === 0) return undefined;
        return new Refusal('EEXIST', conflictText(conflict, lost, result));
      },
    },
  );
}

/** Directories as such; of other names the directory that they are in. What another one includes is left out. */
async function keysOf(
  { files }: TreeParts,
  request: PathsRequest,
  signal: AbortSignal,
): Promise<string[]> {
  const found = new Set<string>();
  const add = (path: string, isDirectory: boolean): void => {
    const slash = path.lastIndexOf('/');
    found.add(isDirectory ? path : slash < 0 ? '' : path.slice(0, slash));
  };
  for (const path of request.paths) add(path, files.entry(path).kind === 'directory');
  for (const glob of request.globs ?? []) {
    for await (const { path, kind } of files.matching(glob, signal))
      add(path, kind === 'directory');
  }
  const all = [...found];
  return all.filter((key) => !all.some((other) => other !== key && includes(other, key)));
}

function includes(directory: string, path: string): boolean {
  return directory === '' || path.startsWith(`${directory}/`);
}

function countsOf({
  directories,
  stubs,
  replaced,
  removed,
  failed,
}: PopulateResult): Record<string, number> {
  return { directories, stubs, replaced, removed, failed };
}

function changesOf(result: PopulateResult): RefreshChanges {
  const { made, stubs, links, symlinks, replaced, removed } = result;
  const { kept, conflict, lost, skipped } = result.reported;
  return {
    new: made + stubs + links + symlinks - replaced,
    updated: replaced,
    gone: removed,
    kept: kept + conflict + lost,
    leftOut: skipped,
    unsure: 0,
  };
}

function conflictText(conflict: number, lost: number, { reports }: PopulateResult): string {
  const first = reports.find(({ kind }) => kind === 'conflict' || kind === 'lost');
  const example = first === undefined ? '' : `, for example ${first.key}: ${first.message}`;
  return `${conflict + lost} file(s) stay as they are here${example} (all: ebb log)`;
}
