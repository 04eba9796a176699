/** The control API's handlers, put together. */
import type { ControlHandlers } from '../../control/handlers.ts';
import type { StopResult } from '../../api.ts';
import type { DaemonParts } from '../parts.ts';
import { Actions } from './actions.ts';
import { Queries } from './queries.ts';

/** `stop` unmounts; see MountProcess. */
export function controlHandlers(
  parts: DaemonParts,
  stop: (lazy: boolean) => Promise<StopResult>,
): ControlHandlers {
  const queries = new Queries(parts);
  const actions = new Actions(parts);
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
    top: async () => queries.top(),
    log: ({ lines, follow }, signal) => parts.logbook.read(lines, follow, signal),
    refresh: (request, signal) => actions.refresh(request, signal),
    stop: ({ lazy }) => stop(lazy),
    metrics: async () => queries.metrics(),
  };
}
