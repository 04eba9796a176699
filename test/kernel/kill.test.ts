/**
 * SIGKILL of daemon and supervisor at any moment under eight readers. Readers get bytes or an errno, never a wrong
 * byte, also after the next mount of the same cache; what was durable before is not fetched again (invariants I2, I9).
 */
import assert from 'node:assert/strict';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter, chunkBytes, noise } from '../support/corpus.ts';
import { untilDurable } from '../support/durable.ts';
import { assertHonest, assertSameFiles } from '../support/deaths.ts';
import { startStress } from '../support/hammer.ts';
import { mountEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import type { RunningServer } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { residentBytes } from '../support/virtual-attributes.ts';

const rounds = Number(process.env['EBB_KILL_ROUNDS'] ?? 8);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 8;
const killAfterMaxMs = 1200;

/** EIO, EINTR, ENODEV, ECONNABORTED, ENOTCONN: what a dead or dying mount may say. */
const mountErrors = new Set(['5', '4', '19', '103', '107']);

/** 24 files from nothing to 6 MiB. */
function writeFiles(root: string): string[] {
  const writer = new CorpusWriter(root);
  const sizes = noise('kill sizes', 24 * 4);
  return Array.from({ length: 24 }, (_unused, index) => {
    const name = `d${index % 3}/file-${index}.bin`;
    const magnitude = 2 ** (8 + (index % 15));
    writer.bytes(name, magnitude + (sizes.readUInt16LE(index * 4) % magnitude));
    return name;
  });
}

test(`killed ${rounds} times under ${readers} readers, no byte is wrong`, async (context) => {
  await using directory = await temporaryDirectory('kill');
  await chmod(directory.path, 0o755);
  const source = path.join(directory.path, 'source');
  const names = writeFiles(source);
  const helper = await compileHelper(directory.path, 'hammer');
  await using origin = await startNginx({ root: source, workers: 1 });
  const random = noise(`kill ${seed}`, rounds * 4);
  let resumed = 0;
  for (let round = 0; round < rounds; round += 1) {
    const afterMs = random.readUInt32LE(round * 4) % killAfterMaxMs;
    const cacheDirectory = path.join(directory.path, `cache-${round}`);
    await mkdir(cacheDirectory);
    const options = round % 4 === 3 ? ['--unprivileged'] : [];
    await using mount = await mountEbb({ remote: origin.url, cacheDirectory, options });
    const place = { helper, mount: mount.path, source, names };
    await using stress = startStress({ ...place, readers, seconds: 600, seed: seed + round });
    await sleep(afterMs);
    // The others are killed whenever it comes: on a slow machine before anything is here.
    if (round === 0) await untilDurable(mount, chunkBytes);
    await mount.killAll();
    const said = `round ${round} (seed ${seed}), killed after ${afterMs} ms`;
    assertHonest(await stress.stop(), said, mountErrors);
    await mount.detach();
    await mount.remount();
    resumed += await assertIntact(mount, { source, names, origin, said });
  }
  context.diagnostic(`${(resumed / 2 ** 20).toFixed(0)} MiB survived the kills`);
  assert.ok(
    resumed > 0,
    'nothing was ever durable when the daemon was killed: the test saw nothing',
  );
});

interface Expectation {
  readonly source: string;
  readonly names: readonly string[];
  readonly origin: RunningServer;
  readonly said: string;
}

/** Reads everything, and compares what the origin sent meanwhile with what was missing. Returns what was not. */
async function assertIntact(mount: EbbMount, expected: Expectation): Promise<number> {
  const { source, names, said } = expected;
  const resident = await residentBytes(mount.path, names);
  const before = await bytesServed(expected.origin);
  await assertSameFiles(mount, source, names, said);
  const after = await bytesServed(expected.origin);
  let survived = 0;
  for (const name of names) {
    const served = (after.get(name) ?? 0) - (before.get(name) ?? 0);
    const here = resident.get(name) ?? 0;
    const sizeBytes = await sizeOf(path.join(source, name));
    survived += here;
    assert.ok(
      served <= sizeBytes - here + mergeSlackBytes,
      `${said}: ${name}: ${here} of ${sizeBytes} bytes were here, yet ${served} were fetched`,
    );
  }
  return survived;
}

/** A flight may bridge one chunk between two gaps that is here already. */
const mergeSlackBytes = chunkBytes;

async function sizeOf(file: string): Promise<number> {
  return (await readFile(file)).length;
}

/** Body bytes that nginx sent, by path (its access log, default format). */
async function bytesServed(origin: RunningServer): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  for (const line of (await nginxLog(origin)).split('\n')) {
    const parts = /"GET \/(\S*) HTTP[^"]*" (?:200|206) (\d+)/.exec(line);
    if (parts === null) continue;
    const name = decodeURIComponent(parts[1] ?? '');
    sums.set(name, (sums.get(name) ?? 0) + Number(parts[2]));
  }
  return sums;
}
