/** The control API's handlers, put together. */
import type { ControlHandlers } from '../../control/handlers.ts';
import { sharedHandlers } from '../../control/shared-handlers.ts';
import type { StopResult } from '../../api.ts';
import type { DaemonParts } from '../parts.ts';
import { Actions } from './actions.ts';
import { Handles } from './handles.ts';
import { Queries } from './queries.ts';

/** `stop` unmounts; `restart` writes everything down, so that another daemon can follow. See MountProcess. */
export function controlHandlers(
  parts: DaemonParts,
  stop: (lazy: boolean) => Promise<StopResult>,
  restart: () => Promise<void>,
): ControlHandlers {
  const actions = new Actions(parts);
  const { recallViews, logbook } = parts;
  return {
    ...sharedHandlers({ queries: new Queries(parts), actions, recallViews, logbook }),
    handles: new Handles(parts),
    refresh: (request, signal) => actions.refresh(request, signal),
    stop: ({ lazy }) => stop(lazy),
    restart,
  };
}
