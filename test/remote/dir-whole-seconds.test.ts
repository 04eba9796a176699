/** An origin on a file system that keeps whole seconds: a change within the second of the last one does not show. */
import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EbbError } from '../../src/base/errors.ts';
import { blindForMs } from '../../src/remote/dir/facts.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { readAll } from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { mountImage } from '../tree/support/image.ts';

const sizeBytes = 100_000;
const half = sizeBytes / 2;
const second = 1_000;

test('a file that is written again within the second of its version is not read as a mix of both', async () => {
  using image = mountImage('ext4', ['-I', '128']);
  const file = path.join(image.path, 'f');
  const remote = await openDirectoryRemote(image.path);
  const contents = [1, 2].map((seed) => Buffer.from(patternBytes(seed, sizeBytes)));
  // Most of a second is left. If the machine is so busy that it is not enough, the version tells.
  await sleep(second - (Date.now() % second));
  writeFileSync(file, contents[0] as Buffer);
  assert.equal(statSync(file, { bigint: true }).ctimeNs % 1_000_000_000n, 0n);
  const signal = new AbortController().signal;
  const { version } = await remote.stat('f', { signal });
  const read = (offsetBytes: number): Promise<Buffer | EbbError> =>
    readAll(remote, 'f', { offsetBytes, lengthBytes: half, version }).then(
      ({ bytes }) => bytes,
      (error: EbbError) => error,
    );
  const front = read(0);
  await Promise.race([front, sleep(second / 4)]);
  writeFileSync(file, contents[1] as Buffer);
  const parts = [await front, await read(half)];
  const failures = parts.filter((part) => part instanceof EbbError);
  assert.ok(failures.every(({ code }) => code === 'ESTALE'));
  if (failures.length === 0) {
    const whole = Buffer.concat(parts as Buffer[]);
    assert.ok(
      contents.some((content) => content.equals(whole)),
      'a mix',
    );
  }
  await remote.close();
});

test('what was got ready is not read at once, either, within the second of its version', async () => {
  using image = mountImage('ext4', ['-I', '128']);
  const file = path.join(image.path, 'f');
  const remote = await openDirectoryRemote(image.path);
  writeFileSync(file, patternBytes(1, sizeBytes));
  const { version = '' } = await remote.stat('f', { signal: new AbortController().signal });
  const into = new Uint8Array(4_096);
  const readAtOnce = async (): Promise<boolean> => {
    remote.expect?.('f', version);
    // First until it is open.
    await remote.readReady?.('f', version, into, 0);
    return remote.readReady?.('f', version, into, 0) === true;
  };
  assert.equal(await readAtOnce(), false);
  await waitFor(async () => await readAtOnce(), { what: 'its seconds to be over' });
  assert.ok(patternBytes(1, into.length).equals(into));
  await remote.close();
});

test('how long a version may stay what it was: where there are fractions of a second not at all', () => {
  const at = 1_600_000_000_000;
  const ctimeNs = BigInt(at) * 1_000_000n;
  assert.equal(blindForMs(ctimeNs + 1n, at), 0);
  assert.equal(blindForMs(ctimeNs, at - 1), 0, 'clocks that do not agree');
  assert.ok(blindForMs(ctimeNs, at) > 2 * second);
  assert.ok(blindForMs(ctimeNs, at + 2 * second) > 0);
  assert.equal(blindForMs(ctimeNs, at + 3 * second), 0);
});
