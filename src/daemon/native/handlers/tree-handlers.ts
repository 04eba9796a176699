/** The control API's handlers of a tree, put together. */
import type { StopResult } from '../../api.ts';
import type { ControlHandlers } from '../../control/handlers.ts';
import { sharedHandlers } from '../../control/shared-handlers.ts';
import type { TreeParts } from '../tree-parts.ts';
import { TreeActions } from './tree-actions.ts';
import { TreeHandles } from './tree-handles.ts';
import { TreeQueries } from './tree-queries.ts';
import { refreshTree } from './tree-refresh.ts';

export interface TreeEnds {
  readonly stop: (lazy: boolean) => Promise<StopResult>;
  readonly restart: () => Promise<void>;
  readonly detach: NonNullable<ControlHandlers['detach']>;
}

export function treeHandlers(parts: TreeParts, ends: TreeEnds): ControlHandlers {
  const actions = new TreeActions(parts);
  const { recallViews, logbook, tokens } = parts;
  return {
    ...(tokens === undefined ? {} : { handles: new TreeHandles(parts, tokens) }),
    ...sharedHandlers({ queries: new TreeQueries(parts), actions, recallViews, logbook }),
    refresh: (request, signal) => refreshTree(parts, request, signal),
    stop: ({ lazy }) => ends.stop(lazy),
    restart: ends.restart,
    detach: ends.detach,
  };
}
