/** `ebb top` shows command lines, and waits for none. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { commandName } from '../../src/base/processes.ts';
import { commandLine } from '../../src/cli/command-lines.ts';
import { waitFor } from '../support/wait-for.ts';

test('a process is shown with its arguments, where it is still the one that the daemon means', async () => {
  const child = spawn('sleep', ['1234.5']);
  const { pid = 0 } = child;
  await waitFor(async () => (await commandName(pid)) === 'sleep', { what: 'the program' });
  assert.equal(await commandLine(pid, 'sleep'), 'sleep 1234.5');
  child.kill('SIGKILL');
  assert.equal(await commandLine(process.pid, 'another'), 'another');
  assert.equal(await commandLine(process.pid, '[gone]'), '[gone]');
});

test('a command line that cannot be read, or only after a long time, is the name', async () => {
  const name = await commandName(process.pid);
  const never = (): Promise<Uint8Array> => new Promise(() => undefined);
  const refused = (): Promise<Uint8Array> => Promise.reject(new Error('EACCES'));
  const empty = async (): Promise<Uint8Array> => new Uint8Array(0);
  for (const read of [never, refused, empty]) {
    assert.equal(await commandLine(process.pid, name, read), name);
  }
});
