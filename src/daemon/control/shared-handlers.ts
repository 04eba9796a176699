/** The handlers that a mount and a tree have in common: which method of whom answers what. */
import type { Logbook } from '../logbook.ts';
import type { ControlHandlers } from './handlers.ts';
import type { RecallViews } from './recall-views.ts';

type Answered = 'status' | 'metrics';

export interface Handling {
  readonly queries: Pick<ControlHandlers, 'ls' | 'du' | 'explain'> & {
    readonly [Name in Answered]: () => Awaited<ReturnType<ControlHandlers[Name]>>;
  };
  readonly actions: Pick<ControlHandlers, 'get' | 'release' | 'pin' | 'unpin' | 'verify'>;
  readonly recallViews: RecallViews;
  readonly logbook: Logbook;
}

export function sharedHandlers({
  queries,
  actions,
  recallViews,
  logbook,
}: Handling): Omit<ControlHandlers, 'refresh' | 'stop' | 'restart' | 'detach'> {
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
    top: async () => recallViews.top(),
    log: ({ lines, follow }, signal) => logbook.read(lines, follow, signal),
    metrics: async () => queries.metrics(),
  };
}
