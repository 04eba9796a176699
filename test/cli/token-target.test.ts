/** From a token to its daemon, whatever other daemons do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatToken } from '../../src/base/handle-token.ts';
import { Mounts } from '../../src/cli/target.ts';
import { clientOfToken } from '../../src/cli/token-target.ts';
import { scriptedDaemon } from './support.ts';

const tokenOf = (tag: string): string => formatToken({ tag, body: 'A'.repeat(60) });
/** That of scripted daemons. */
const given = tokenOf('0123456789abcdef');
const foreign = tokenOf('fedcba9876543210');

test('a daemon that hangs keeps nobody from the one that gave the token out', async () => {
  await using hanging = await scriptedDaemon({ status: () => new Promise(() => undefined) });
  await using right = await scriptedDaemon();
  const all = new Mounts([hanging.record, right.record]);
  assert.equal((await clientOfToken(given, all)).record.mountPoint, right.mountPoint);
  const told = new RegExp(`daemon of ${hanging.mountPoint} does not answer`);
  await assert.rejects(clientOfToken(foreign, all, 100), { code: 'ETIMEDOUT', message: told });
  await assert.rejects(clientOfToken(foreign, new Mounts([right.record])), { code: 'ENOENT' });
  await assert.rejects(clientOfToken(foreign, new Mounts([])), { code: 'ENOENT' });
});
