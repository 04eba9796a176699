/**
 * Compiled code fits the switches that V8 counts, and Node's own was made without any: whoever starts with one of them
 * compiles Node's modules anew, 15 to 20 ms of each start.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceFlags } from '../../src/cli/launch-service.ts';
import { launcherFlags } from '../../src/image/sandbox/node-flags.ts';
import { said } from '../support/run.ts';

/** Another number for other compiled code. */
const script = 'process.getBuiltinModule("node:v8").cachedDataVersionTag()';

test('services, and what becomes an image server, start with the compiled code that Node brings along', async () => {
  const tagOf = (flags: readonly string[]): Promise<string> =>
    said(process.execPath, ...flags, '--print', script);
  const own = await tagOf([]);
  for (const flags of [serviceFlags, launcherFlags]) {
    assert.equal(await tagOf(flags), own, flags.join(' '));
  }
  assert.notEqual(await tagOf(['--expose-gc']), own);
});
