/** Handle tokens from end to end: `ebb handle`, `ebb open`, and the control API that programs use. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runFiles } from '../../src/base/run-directory.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { mountEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const bigBytes = 3 * 1024 * 1024 + 17;

test('a token opens its file whatever happens to the mount, and nothing else; all others are refused', async () => {
  await using directory = await temporaryDirectory('tokens');
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  source.text('file', 'by token\n');
  source.bytes('sub/big', bigBytes);
  const big = readFileSync(source.at('sub/big'));
  await using mount = await mountEbb({ remote: source.root, options: ['--ttl', '0'] });
  const take = async (name: string): Promise<string> => {
    const taken = await mount.ebb(['handle', path.join(mount.path, name)]);
    assert.equal(taken.code, 0, taken.stderr.toString());
    return taken.stdout.toString().trim();
  };
  const file = await take('file');
  const token = await take('sub/big');

  // By range of what is not here yet, by all of it, and what is known of it.
  const part = await mount.ebb(['open', '--range', '2000000-2000099', token]);
  assert.ok(part.stdout.equals(big.subarray(2_000_000, 2_000_100)), part.stderr.toString());
  await mount.unmount();
  await mount.remount();
  const whole = await mount.ebb(['open', token]);
  assert.ok(whole.stdout.equals(big), whole.stderr.toString());
  const info = await mount.ebb(['open', '--stat', '--json', token]);
  const { path: shown, sizeBytes } = JSON.parse(info.stdout.toString()) as Record<string, unknown>;
  assert.deepEqual([shown, sizeBytes], [path.join(mount.path, 'sub/big'), bigBytes]);
  const last = await ask(mount, 'GET', `/v1/handles/${token}`, { range: 'bytes=-10' });
  assert.equal(last.status, 206);
  assert.ok(last.body.equals(big.subarray(-10)));
  const beyond = await ask(mount, 'GET', `/v1/handles/${token}`, { range: 'bytes=99999999-' });
  assert.equal(beyond.status, 416);

  const refused = async (bad: string, said: RegExp): Promise<void> => {
    const opened = await mount.ebb(['open', bad]);
    assert.equal(opened.code, 1, bad);
    assert.equal(opened.stdout.length, 0, bad);
    assert.match(opened.stderr.toString(), said);
  };
  await refused(token.slice(0, -1), /no token, or not all of one/);
  await refused(
    `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`,
    /was not given out here/,
  );
  await refused(
    token.replace(/^ebb1\.\w{16}/, 'ebb1.0123456789abcdef'),
    /No mount or tree of yours gave/,
  );
  // Past the CLI, which looks at the tag: the daemon itself.
  for (const bad of ['x', 'ebb1.', `${token}A`, token.replace(/^ebb1\.\w/, 'ebb1.z')]) {
    assert.equal((await ask(mount, 'GET', `/v1/handles/${bad}`)).status, 403, bad);
  }

  const revoked = await mount.ebb(['handle', '--revoke', token]);
  assert.equal(revoked.code, 0, revoked.stderr.toString());
  await refused(token, /was revoked/);
  const again = await take('sub/big');
  assert.notEqual(again, token);
  assert.ok(
    (await mount.ebb(['open', '--range', '0-99', again])).stdout.equals(big.subarray(0, 100)),
  );

  source.text('new', 'BY TOKEN\n');
  renameSync(source.at('new'), source.at('file'));
  await refused(file, /is gone, or the remote has a new version/);
  assert.equal((await mount.ebb(['open', await take('file')])).stdout.toString(), 'BY TOKEN\n');
  assert.ok((await mount.status()).tokensRefused >= 7);
  const metrics = await ask(mount, 'GET', '/metrics');
  assert.match(metrics.body.toString(), /ebb_tokens_refused_total\{reason="revoked"\} [1-9]/);
  assert.match(metrics.body.toString(), /ebb_tokens_refused_total\{reason="stale"\} [1-9]/);

  await mount.unmount();
  await mount.remount(['--new-handles']);
  await refused(again, /was not given out here/);
});

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

function ask(
  mount: EbbMount,
  method: string,
  target: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { socket } = runFiles(mount.path, mount.runDirectory);
    const outgoing = request({ socketPath: socket, method, path: target, headers });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', reject);
      response.once('end', () => {
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces) });
      });
    });
    outgoing.end();
  });
}
