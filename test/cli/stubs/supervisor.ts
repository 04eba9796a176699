/** Stands in for the supervisor in tests of `ebb attach`: does what its options' `remote` says. */
import { readFileSync, writeSync } from 'node:fs';
import type {
  AttachOptions,
  AttachProgress,
  AttachStartResult,
} from '../../../src/daemon/start-api.ts';

const options = JSON.parse(readFileSync(0, 'utf8')) as AttachOptions;
const pathname = options.remote === undefined ? '/again' : new URL(options.remote).pathname;
if (pathname === '/dies') {
  process.stderr.write('last words\n');
  process.exit(7);
}
const say = (line: AttachStartResult | { progress: AttachProgress }): void => {
  writeSync(3, `${JSON.stringify(line)}\n`);
};
say({ progress: { directories: 1, stubs: 2, bytes: 3, path: 'a' } });
process.stderr.write(`${JSON.stringify({ options, argv: process.argv.slice(2) })}\n`);
const run = {
  kind: 'tree',
  pid: process.pid,
  startTicks: 0,
  mountPoint: options.tree,
  remote: 'http://stub/',
  cacheDirectory: '/c',
  socketPath: '/s',
} as const;
const none = {
  directories: 0,
  stubs: 0,
  symlinks: 0,
  remoteBytes: 0,
  kept: 0,
  skipped: 0,
  failed: 0,
  problems: [],
};
const first = { ...none, directories: 3, stubs: 1200, remoteBytes: 5 * 1024 ** 3 };
const partly = {
  ...first,
  kept: 1,
  failed: 101,
  problems: [
    { path: 'mine', error: 'a file of your own has this name' },
    { path: 'evil\u001b[31m', error: 'EIO' },
  ],
};
const found = pathname === '/again' ? none : pathname === '/partly' ? partly : first;
if (pathname === '/refuses')
  say({ ok: false, error: 'no leases here', code: 'EINVAL', exitCode: 3 });
else say({ ok: true, run, supervisorPid: process.pid, ...found });
