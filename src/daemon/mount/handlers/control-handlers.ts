/** The control API's handlers, put together. */
import type { ControlHandlers } from '../../control/handlers.ts';
import { sharedHandlers } from '../../control/shared-handlers.ts';
import type { StopResult } from '../../api.ts';
import type { DaemonParts } from '../parts.ts';
import { Actions } from './actions.ts';
import { Handles } from './handles.ts';
import { Queries } from './queries.ts';

/** `stop` unmounts; see MountProcess. */
export function controlHandlers(
  parts: DaemonParts,
  stop: (lazy: boolean) => Promise<StopResult>,
): ControlHandlers {
  const actions = new Actions(parts);
  const { recallViews, logbook } = parts;
  return {
    ...sharedHandlers({ queries: new Queries(parts), actions, recallViews, logbook }),
    handles: new Handles(parts),
    refresh: (request, signal) => actions.refresh(request, signal),
    stop: ({ lazy }) => stop(lazy),
  };
}
