/**
 * An origin that lies, fails or stalls under a mount: a reader gets the right bytes or an errno within the deadline,
 * never a wrong byte; the daemon lives; when the fault is over all is right again without an unmount.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter, chunkBytes } from '../support/corpus.ts';
import { ServingHammer, startStress } from '../support/hammer.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import type { LyingOrigin, OriginFault } from '../support/lying-origin.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { killAtExit, killGroup, run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { faultCases } from './fault-table.ts';
import type { FaultCase } from './fault-table.ts';

const deadlineMs = 5000;
/** Beyond the deadline a reader may wait for two things in a row: attributes, then bytes. */
const answerWithinMs = 2 * deadlineMs + 2000;
/** A page fault asks up to three times (read-ahead, the page, the page again: mm/filemap.c), but waits only once. */
const mappingWithinMs = deadlineMs + 7000;
const recoverWithinMs = 20_000;
const sizeBytes = 5 * chunkBytes + 123;
/** No fault is meant for mounting, which has the same deadline. */
const hasty = { options: ['--deadline', '5s', '--ttl', '1s'], attemptsMax: 5 };
/** Where the reader must get his bytes: on a busy machine, too. */
const patient = { options: ['--deadline', '60s', '--ttl', '1s'] };
/** More than the kernel has READs of read-ahead under way where nobody asks for more. */
const crowdNames = Array.from({ length: 120 }, (_unused, index) => `crowd-${index}.bin`);
const listedNames = Array.from({ length: 30 }, (_unused, index) => `listed-${index}.txt`);

let directory: TemporaryDirectory;
let source: string;
let helper: string;
let origin: LyingOrigin;

before(async () => {
  directory = await temporaryDirectory('faults');
  source = path.join(directory.path, 'source');
  helper = await compileHelper(directory.path, 'hammer');
  const writer = new CorpusWriter(source);
  for (const { name } of faultCases) {
    for (const file of ['first.bin', 'second.bin', 'sound.bin']) {
      writer.bytes(path.join(name, file), sizeBytes);
    }
  }
  for (const name of ['gone', 'replaced', 'listing', 'storm']) {
    for (const file of listedNames) writer.text(path.join(name, 'names', file), file);
    for (const file of ['first.bin', 'second.bin']) writer.bytes(path.join(name, file), sizeBytes);
  }
  for (const file of crowdNames) writer.sparse(path.join('crowd', file), 16 * chunkBytes, []);
  writer.bytes('crowd/sound.bin', 8 * chunkBytes);
  origin = await startLyingOriginProcess({ root: source });
});

after(async () => {
  await origin?.[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

/** Opens and reads at both ends, in the middle, and through a mapping; the answers in that order. */
async function readSome(
  mount: EbbMount,
  { name, startOnly }: Pick<FaultCase, 'name' | 'startOnly'>,
  file: string,
): Promise<string[]> {
  using hammer = new ServingHammer(helper);
  const places = [path.join(mount.path, file), path.join(source, name, file)];
  const answers = [await hammer.ask(`open 0 ${places.join(' ')}`, answerWithinMs)];
  if (answers[0] !== 'ok 0') return answers;
  answers.push(await hammer.ask('pread 0 0 4096', answerWithinMs));
  if (startOnly === true) return answers;
  answers.push(await hammer.ask(`pread 0 ${sizeBytes - 100} 200`, answerWithinMs));
  answers.push(await hammer.ask(`mmap 0 ${2 * chunkBytes} 5000`, mappingWithinMs));
  return answers;
}

async function readsRight(mount: EbbMount, caseName: string, file: string): Promise<boolean> {
  const mounted = path.join(mount.path, file);
  const result = await run('cmp', [mounted, path.join(source, caseName, file)], {
    timeoutMs: recoverWithinMs,
  });
  const said = result.stdout.toString();
  assert.doesNotMatch(said, /differ/, `${caseName}/${file}: wrong bytes after the fault`);
  return result.code === 0;
}

async function survive(mount: EbbMount, fault: FaultCase): Promise<void> {
  await waitFor(() => readsRight(mount, fault.name, 'sound.bin'), { what: 'a read at first' });
  const { name, times, rangedOnly, also = [] } = fault;
  if (rangedOnly === true) await run('stat', [path.join(mount.path, 'first.bin')]);
  const ranged = rangedOnly === true ? { ranged: true } : {};
  const ruleOf = (file: string, one: OriginFault): Promise<number> =>
    origin.addRule({
      fault: one,
      match: { path: `/${name}/${file}`, ...ranged },
      ...(times === undefined ? {} : { times }),
    });
  const rules: number[] = [];
  for (const one of [fault.fault, ...also]) {
    rules.push(await ruleOf('first.bin', one), await ruleOf('second.bin', one));
  }
  try {
    for (const answer of await readSome(mount, fault, 'first.bin')) assertAllowed(answer, fault);
    assert.ok(mount.alive(), 'the daemon died of it');
    // On a busy machine one deadline may pass for want of a processor.
    await waitFor(() => readsRight(mount, name, 'sound.bin'), { what: 'another file, too' });
  } finally {
    for (const id of rules) await origin.removeRule(id);
  }
  for (const file of ['first.bin', 'second.bin']) {
    await waitFor(() => readsRight(mount, name, file), {
      what: `${file} to be right again`,
      timeoutMs: recoverWithinMs,
      intervalMs: 250,
    });
  }
  assert.ok(mount.alive());
}

function assertAllowed(answer: string, { name, outcome }: FaultCase): void {
  assert.doesNotMatch(answer, /^wrong/, `${name}: wrong bytes`);
  if (outcome === 'bytes') assert.match(answer, /^ok/, `${name} can be worked around`);
  // An open may succeed before anything is asked of the origin.
  if (outcome === 'error') assert.match(answer, /^errno|^ok 0$/, `${name}: bytes out of nowhere`);
  assert.notEqual(answer, 'errno 4', 'EINTR without a signal');
}

void describe('faults of an origin', { concurrency: 4 }, () => {
  for (const fault of faultCases) {
    void test(`${fault.name}: ${fault.outcome}`, async () => {
      const remote = `${origin.url}${fault.name}/`;
      const how = fault.outcome === 'bytes' ? patient : hasty;
      await withEbb({ remote, ...how }, (mount) => survive(mount, fault));
    });
  }
});

test('the origin dies while it is read, and comes back', async () => {
  const own = await startLyingOriginProcess({ root: source });
  await using _ = own;
  await withEbb({ remote: `${own.url}gone/`, ...hasty }, async (mount) => {
    await waitFor(() => readsRight(mount, 'gone', 'first.bin'), { what: 'a read at first' });
    await run('stat', [path.join(mount.path, 'second.bin')]);
    await own.stopListening();
    for (const answer of await readSome(mount, { name: 'gone' }, 'second.bin')) {
      assert.doesNotMatch(answer, /^wrong/);
    }
    assert.ok(await readsRight(mount, 'gone', 'first.bin'), 'resident content needs the origin');
    assert.ok(mount.alive());
    await own.listenAgain();
    await waitFor(() => readsRight(mount, 'gone', 'second.bin'), {
      what: 'the file to be right again',
      timeoutMs: recoverWithinMs,
    });
  });
});

test('however many wait for an origin that says nothing, what is here is read', async () => {
  const own = await startLyingOriginProcess({ root: source });
  await using _ = own;
  const options = ['--deadline', '1h', '--no-passthrough'];
  await withEbb({ remote: `${own.url}crowd/`, options }, async (mount) => {
    const at = (name: string): string => path.join(mount.path, name);
    await runOk('ls', ['-l', mount.path]);
    assert.equal((await mount.ebb(['get', at('sound.bin')])).code, 0);
    await own.addRule({ match: { method: 'GET' }, fault: { kind: 'stallHeaders' } });
    const crowd = spawn(
      '/bin/sh',
      ['-c', 'for f; do cat "$f" & done; wait', 'sh', ...crowdNames.map(at)],
      {
        detached: true,
        stdio: 'ignore',
      },
    );
    killAtExit(crowd);
    try {
      const areOpen = async (): Promise<boolean> =>
        (await mount.status()).openFiles >= crowdNames.length;
      await waitFor(areOpen, { what: 'the crowd' });
      // Their READs follow at once.
      await delay(300);
      const result = await run('cmp', [at('sound.bin'), path.join(source, 'crowd', 'sound.bin')]);
      assert.equal(result.code, 0, result.stderr.toString());
      assert.ok(await areOpen(), 'somebody had to get an error first');
    } finally {
      await own.clearRules();
      await own.dropConnections();
      killGroup(crowd);
    }
  });
});

test('connections cut again and again under readers', async () => {
  await using mount = await mountEbb({ remote: `${origin.url}storm/`, ...hasty });
  const place = { helper, mount: mount.path, source: path.join(source, 'storm') };
  const names = ['first.bin', 'second.bin', 'names/listed-3.txt'];
  await using stress = startStress({ ...place, names, readers: 6, seconds: 4, seed: 1 });
  const cutting = setInterval(() => void origin.dropConnections(), 150);
  const reports = await stress.finish(60_000).finally(() => clearInterval(cutting));
  for (const report of reports) assert.equal(report.wrong, undefined);
  assert.ok(mount.alive());
  for (const file of ['first.bin', 'second.bin']) {
    await waitFor(() => readsRight(mount, 'storm', file), { what: `${file} to be right` });
  }
});

test('a file replaced while it is open never mixes versions', async () => {
  const remote = `${origin.url}replaced/`;
  await withEbb({ remote, options: ['--deadline', '30s', '--ttl', '0'] }, async (mount) => {
    using hammer = new ServingHammer(helper);
    const place = [path.join(mount.path, 'first.bin'), path.join(source, 'replaced/first.bin')];
    assert.equal(await hammer.ask(`open 0 ${place.join(' ')}`), 'ok 0');
    assert.equal(await hammer.ask('pread 0 0 4096'), 'ok 4096');
    const rule = await origin.addRule({
      fault: { kind: 'replaced' },
      match: { path: '/replaced/first.bin' },
    });
    for (const offset of [0, chunkBytes * 2, sizeBytes - 4096]) {
      const answer = await hammer.ask(`pread 0 ${offset} 4096`, answerWithinMs);
      assert.match(answer, /^ok|^errno (5|116)$/, 'bytes of the new version in the old file');
    }
    await assertInverted(place);
    await origin.removeRule(rule);
  });
});

/** A new open sees the new version, all of it: every byte is inverted. */
async function assertInverted(place: readonly string[]): Promise<void> {
  const [mounted = '', original = ''] = place;
  const script = `const fs = require('fs'); const [, a, b] = process.argv;
    const got = fs.readFileSync(a), old = fs.readFileSync(b);
    process.exit(got.length === old.length && got.every((byte, i) => byte === (old[i] ^ 255)) ? 0 : 1)`;
  const result = await run(process.execPath, ['-e', script, mounted, original]);
  assert.equal(
    result.code,
    0,
    `a new open does not see the new version: ${result.stderr.toString()}`,
  );
}

test('listings that break off never hide names', async () => {
  await withEbb({ remote: `${origin.url}listing/`, ...hasty }, async (mount) => {
    const names = path.join(mount.path, 'names');
    const cuts = [
      { kind: 'listingCut', afterBytes: 1500 },
      { kind: 'listingCut', afterBytes: 1500, clean: true },
      { kind: 'status', status: 500 },
      { kind: 'stallBody', afterBytes: 500 },
      { kind: 'htmlPage' },
      { kind: 'garbage' },
    ] as const;
    for (const fault of cuts) {
      const rule = await origin.addRule({ fault, match: { path: '/listing/names/' } });
      const during = await run('ls', [names], { timeoutMs: answerWithinMs });
      assert.ok(!during.timedOut, `${fault.kind}: ls hangs`);
      if (during.code === 0) assertAllNames(during.stdout.toString(), JSON.stringify(fault));
      await origin.removeRule(rule);
      await waitFor(async () => (await run('ls', [names])).code === 0, {
        what: `the listing to work after ${fault.kind}`,
        timeoutMs: recoverWithinMs,
      });
      assertAllNames((await run('ls', [names])).stdout.toString(), `after ${fault.kind}`);
      // The next fault must meet a listing that is not trusted any more.
      await once(AbortSignal.timeout(1200), 'abort');
    }
    assert.ok(mount.alive());
  });
});

function assertAllNames(output: string, what: string): void {
  assert.deepEqual(output.trim().split('\n').sort(), [...listedNames].sort(), what);
}
