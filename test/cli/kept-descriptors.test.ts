/** What a service manager gives a service that is started again (sd_listen_fds(3)). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keptDescriptors } from '../../src/cli/kept-descriptors.ts';

test('descriptors that are meant for this process, in their order', () => {
  const environment = { LISTEN_PID: '17', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:b' };
  assert.deepEqual(keptDescriptors(environment, 17), [
    { name: 'a', fd: 3 },
    { name: 'b', fd: 4 },
    { name: 'unknown', fd: 5 },
  ]);
  assert.deepEqual(keptDescriptors(environment, 18), []);
  assert.deepEqual(keptDescriptors({}, 17), []);
  for (const LISTEN_FDS of ['-1', 'x', '']) {
    assert.deepEqual(keptDescriptors({ ...environment, LISTEN_FDS }, 17), []);
  }
});
