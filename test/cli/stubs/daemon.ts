/** Stands in for the daemon in tests of `ebb mount`: does what its options' `remote` says. */
import { readFileSync, writeSync } from 'node:fs';
import type { MountOptions } from '../../../src/daemon/start-api.ts';

const options = JSON.parse(readFileSync(0, 'utf8')) as MountOptions;
const { pathname } = new URL(options.remote);
if (pathname === '/dies') {
  process.stderr.write('first line\nlast words\n');
  process.exit(7);
}
if (pathname === '/waits') {
  for (const signal of ['SIGHUP', 'SIGTERM'] as const) {
    process.on(signal, () => process.exit(signal === 'SIGTERM' ? 0 : 5));
  }
  const ready = { ok: true, run: { remote: 'http://stub/' }, files: 0, directories: 0 };
  writeSync(3, `${JSON.stringify(ready)}\n`);
  await new Promise((resolve) => setTimeout(resolve, 60_000));
}
if (pathname === '/refuses') {
  writeSync(
    3,
    `${JSON.stringify({ ok: false, error: 'no such server', code: 'EIO', exitCode: 3 })}\n`,
  );
  process.exit(1);
}
const run = {
  pid: process.pid,
  startTicks: 0,
  mountPoint: options.mountPoint,
  remote: 'http://stub/',
  cacheDirectory: '/c',
  socketPath: '/s',
};
process.stderr.write(`${JSON.stringify({ options, argv: process.argv.slice(2) })}\n`);
writeSync(3, `${JSON.stringify({ ok: true, run, files: 2, directories: 1 })}\n`);
process.exit(0);
