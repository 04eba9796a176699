/**
 * Child of test/remote/dir-hung.test.ts: has a directory remote whose file system stops to answer, and uses it as much
 * as it can. Says what could be done meanwhile. Arguments: the remote, the process that serves it, another directory.
 */
import { readFile } from 'node:fs/promises';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { openRemote } from '../../src/remote/open-remote.ts';
import { listAll, readAll } from '../conformance/collect.ts';
import { announceReady } from './child-service.ts';
import { stopProcess } from './processes.ts';

const [hungPath = '', serverPid = '', otherPath = ''] = process.argv.slice(2);
/** Of each kind; more than the pool has threads. */
const requests = 40;

const hung = await openDirectoryRemote(hungPath);
const other = await openRemote({ url: otherPath });
const { objects } = await listAll(hung, '');
await stopProcess(Number(serverPid));

const stop = new AbortController();
const { signal } = stop;
const asked: Promise<unknown>[] = [];
for (let index = 0; index < requests; index += 1) {
  asked.push(hung.stat(`none-${index}`, { signal }));
  asked.push(listAll(hung, index % 2 === 0 ? '' : `no-directory-${index}`));
  asked.push(readAll(hung, 'blocked', { lengthBytes: 10 }));
}
const settled = Promise.allSettled(asked);
// All have asked for what they want, and have got what they can.
for (let turn = 0; turn < 1000; turn += 1) await new Promise((resolve) => setImmediate(resolve));

const own = await readFile(import.meta.filename, 'utf8');
const listed = [...(await listAll(other, '')).objects.keys()].sort();
const read = (await readAll(other, 'file')).bytes.toString();
stop.abort(new Error('given up'));
const gaveUp = await Promise.allSettled(asked.filter((_request, index) => index % 3 === 0));
const reasons = new Set(
  gaveUp.map((one) => (one.status === 'rejected' ? String(one.reason) : 'none')),
);
announceReady(
  { names: [...objects.keys()].sort(), own: own.length > 0, listed, read, reasons: [...reasons] },
  async () => {
    process.kill(Number(serverPid), 'SIGKILL');
    await settled;
  },
);
