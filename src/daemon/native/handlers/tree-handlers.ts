/** The control API's handlers of a tree, put together. */
import type { StopResult } from '../../api.ts';
import type { ControlHandlers } from '../../control/handlers.ts';
import type { TreeParts } from '../tree-parts.ts';
import { TreeActions } from './tree-actions.ts';
import { TreeQueries } from './tree-queries.ts';
import { refreshTree } from './tree-refresh.ts';

export interface TreeEnds {
  readonly stop: (lazy: boolean) => Promise<StopResult>;
  readonly detach: NonNullable<ControlHandlers['detach']>;
}

export function treeHandlers(parts: TreeParts, ends: TreeEnds): ControlHandlers {
  const queries = new TreeQueries(parts);
  const actions = new TreeActions(parts);
  return {
    status: async () => queries.status(),
    ls: (request, signal) => queries.ls(request, signal),
    du: (request, signal) => queries.du(request, signal),
    explain: (path, signal) => queries.explain(path, signal),
    get: (request, signal) => actions.get(request, signal),
    release: (request, signal) => actions.release(request, signal),
    pin: (request, signal) => actions.pin(request, signal),
    unpin: (request, signal) => actions.unpin(request, signal),
    verify: (request, signal) => actions.verify(request, signal),
    top: async () => parts.recallViews.top(),
    log: ({ lines, follow }, signal) => parts.logbook.read(lines, follow, signal),
    refresh: (request, signal) => refreshTree(parts, request, signal),
    stop: ({ lazy }) => ends.stop(lazy),
    detach: ends.detach,
    metrics: async () => queries.metrics(),
  };
}
