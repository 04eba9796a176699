/**
 * A process that brings names into a tree until it is killed; says how many stubs it made, a number a line. Kills
 * itself when these are as many as its last argument says: whoever reads the lines may be late.
 */
import { writeSync } from 'node:fs';
import { Populator } from '../../src/attach/populate.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { openStubs } from '../tree/support/stubs.ts';

const [
  ,
  ,
  remote = '',
  data = '',
  path = '',
  catalogPath = '',
  exposed = '0',
  killAt = 'Infinity',
] = process.argv;
const { store, catalog } = openStubs({ path, data, catalogPath, [Symbol.dispose]: () => {} });
const populator = new Populator({
  remote: await openDirectoryRemote(remote),
  store,
  catalog,
  defaults: { fileMode: 0o644, directoryMode: 0o755, uid: undefined, gid: undefined },
  parallel: 4,
  makerFromStubs: 100,
  nowMs: Date.now,
});
await populator.run({
  mode: 'resume',
  isExposed: exposed === '1',
  signal: new AbortController().signal,
  onProgress: ({ stubs }) => {
    writeSync(1, `${stubs}\n`);
    if (stubs >= Number(killAt)) process.kill(process.pid, 'SIGKILL');
  },
});
writeSync(1, 'done\n');
