/**
 * Entry point of a tree's daemon, started by its supervisor (src/supervisor/tree-supervisor.ts): descriptors inherited,
 * everything else over the channel; the log on standard error. Waits until it is told to serve, with all of its code
 * loaded: both threads load at the same time. Ends with 0 once the tree was taken away.
 */
import { writeSync } from 'node:fs';
import { toEbbError } from '../base/errors.ts';
import { dieOfBugs, endSoon, settleSoon, outliveTheLog } from '../base/service-process.ts';
import { prepareNativeThread } from '../native/thread.ts';
import { dieWithParent, outliveParent } from '../sys/execute.ts';

outliveTheLog();
process.on('SIGHUP', () => undefined);
// The supervisor denies what this process had taken then, and starts another one.
dieOfBugs();
// Who waits and cannot notice (stopped, stuck while loading) would hold the groups with nobody to read them.
dieWithParent();

const thread = prepareNativeThread();
const { serve } = await import('./native/serve.ts');
const { SupervisorLink } = await import('./native/supervisor-link.ts');
const link = new SupervisorLink();
link.warm();
settleSoon();
const start = await link.started.catch((error: unknown) => {
  const { code, message } = toEbbError(error);
  link.failed({ error: message, code, exitCode: 1 });
  // Who waited and was not needed has nothing to say.
  if (code !== 'ESHUTDOWN') writeSync(2, `${message}\n`);
  process.exit(1);
});
// Who serves goes on: it takes the tree away, or waits for the next supervisor.
outliveParent();
await serve(link, start, thread);
endSoon();
