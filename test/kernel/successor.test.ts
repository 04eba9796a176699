/**
 * A mount outlives its daemons: killed at any moment or replaced on purpose, under readers of all kinds, no system call
 * fails and no byte is wrong; files and directories that were open go on. Nothing that the kernel was given leaks.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { cp, readdir, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { readRunRecords, runFiles } from '../../src/base/run-directory.ts';
import { ControlClient } from '../../src/cli/client.ts';
import { readJournal } from '../../src/mount/request-journal.ts';
import { compileHelper } from '../probes/probe.ts';
import { untilDurable } from '../support/durable.ts';
import { CorpusWriter, chunkBytes, mebibyte, noise } from '../support/corpus.ts';
import { ServingHammer, startStress } from '../support/hammer.ts';
import type { HammerReport } from '../support/hammer.ts';
import { memoryFileOf } from '../support/kept-service.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import { processLives } from '../support/processes.ts';
import type { EbbMount, MountEbbOptions } from '../support/mount.ts';
import { run } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const rounds = Number(process.env['EBB_KILL_ROUNDS'] ?? 3);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 4;
const killAfterMaxMs = 1_500;
/** A reader waits for Node to start, at the most; on a machine that does much else that takes its time. */
const answerMaxMs = 60_000;
const manyNames = 1_500;
const heldBytes = 5 * mebibyte + 77;

let directory: TemporaryDirectory;
let source: string;
let helper: string;
let names: string[];

before(async () => {
  directory = await temporaryDirectory('successor');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  const sizes = noise('successor sizes', 20 * 4);
  names = Array.from({ length: 20 }, (_unused, index) => {
    const name = `d${index % 3}/file-${index}.bin`;
    const magnitude = 2 ** (10 + (index % 13));
    writer.bytes(name, magnitude + (sizes.readUInt16LE(index * 4) % magnitude));
    return name;
  });
  for (const name of ['here.bin', 'cold.bin']) writer.bytes(`held/${name}`, heldBytes);
  for (let index = 0; index < manyNames; index += 1) writer.bytes(`many/name ${index}`, 1);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function assertUntouched(reports: readonly HammerReport[], said: string): void {
  for (const report of reports) {
    assert.equal(report.wrong, undefined, said);
    assert.deepEqual(report.errors, {}, `${said}: a system call failed`);
  }
  assert.ok(
    reports.some(({ reads }) => reads > 0),
    `${said}: nobody read anything`,
  );
}

/** Who has files open while daemons come and go: one passed through, one cached; and reads names all the time. */
class Holder implements Disposable {
  readonly #mount: string;
  readonly #hammer = new ServingHammer(helper);
  readonly #scanner = new ServingHammer(helper);
  readonly #closing = new AbortController();
  #scans: Promise<number> | undefined;

  constructor(mountPoint: string) {
    this.#mount = mountPoint;
  }

  async open(): Promise<void> {
    for (const [handle, name] of [
      [0, 'held/here.bin'],
      [1, 'held/cold.bin'],
    ] as const) {
      const files = `${path.join(this.#mount, name)} ${path.join(source, name)}`;
      assert.equal(await this.#hammer.ask(`open ${handle} ${files}`, answerMaxMs), `ok 0`);
    }
    this.#scans = this.#scan();
    this.#scans.catch(() => undefined);
  }

  /** Reads through both open files, and the first byte of new ones: how long that took, ms. */
  async read(random: number): Promise<number> {
    const startedAtMs = performance.now();
    const offset = random % (heldBytes - 100_000);
    for (const command of [
      `pread 1 ${offset} 100000`,
      `pread 0 ${offset} 100000`,
      `mmap 0 ${offset - (offset % 4096)} 5000`,
      `mmap 1 ${offset - (offset % 4096)} 5000`,
    ]) {
      assert.match(await this.#hammer.ask(command, answerMaxMs), /^ok/, command);
    }
    for (const name of ['held/here.bin', 'held/cold.bin']) {
      const files = `${path.join(this.#mount, name)} ${path.join(source, name)}`;
      assert.equal(await this.#hammer.ask(`open 2 ${files}`, answerMaxMs), 'ok 0', name);
      assert.match(await this.#hammer.ask(`pread 2 ${offset} 4096`, answerMaxMs), /^ok/, name);
      assert.match(await this.#hammer.ask('close 2', answerMaxMs), /^ok/);
    }
    return performance.now() - startedAtMs;
  }

  /** Closes all; how often all names were there, each once. */
  async close(): Promise<number> {
    this.#closing.abort();
    for (const handle of [0, 1]) await this.#hammer.ask(`close ${handle}`, answerMaxMs);
    return (await this.#scans) ?? 0;
  }

  async #scan(): Promise<number> {
    const directories = `${path.join(this.#mount, 'many')} ${path.join(source, 'many')}`;
    let scans = 0;
    for (; !this.#closing.signal.aborted; scans += 1) {
      assert.match(await this.#scanner.ask(`list ${directories}`, answerMaxMs), /^ok/);
    }
    return scans;
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#hammer[Symbol.dispose]();
    this.#scanner[Symbol.dispose]();
  }
}

/** Everything brought here and closed: all of it can be released, so nobody holds a cache file any more. */
async function assertNothingLeaks(mount: EbbMount): Promise<void> {
  const got = await mount.ebb(['get', '-q', mount.path], { timeoutMs: answerMaxMs });
  assert.equal(got.code, 0, got.stderr.toString());
  const open = async (): Promise<boolean> => (await mount.status()).openFiles === 0;
  await waitFor(open, { what: 'the last RELEASE', timeoutMs: answerMaxMs });
  const released = await mount.ebb(['release', '-q', mount.path], { timeoutMs: answerMaxMs });
  assert.equal(released.code, 0, `somebody holds a file: ${released.stderr.toString()}`);
  assert.equal((await mount.status()).residentBytes, 0);
}

async function crashes(options: Partial<MountEbbOptions>, count: number): Promise<number[]> {
  await using origin = await startNginx({ root: source });
  const waitsMs: number[] = [];
  await withEbb({ remote: origin.url, standby: true, ...options }, async (mount) => {
    const got = await mount.ebb(['get', '-q', path.join(mount.path, 'held/here.bin')]);
    assert.equal(got.code, 0, got.stderr.toString());
    using holder = new Holder(mount.path);
    await holder.open();
    const place = { helper, mount: mount.path, source, names };
    await using stress = startStress({ ...place, readers, seconds: 86_400, seed });
    const random = noise(`successor ${seed}`, count * 8);
    for (let round = 0; round < count; round += 1) {
      // What is here becomes cold again, as far as nobody has it open (exit code 3).
      if (round % 5 === 1) await mount.ebb(['release', '-q', mount.path]);
      await sleep(random.readUInt32LE(round * 8) % killAfterMaxMs);
      await mount.currentPid();
      await mount.kill();
      waitsMs.push(await holder.read(random.readUInt32LE(round * 8 + 4)));
      assert.equal(stress.hasEnded, false, `round ${round}`);
    }
    assertUntouched(await stress.stop(answerMaxMs), `seed ${seed}`);
    assert.ok((await holder.close()) > 0, 'the names were never read');
    assert.ok((await mount.status()).restarts >= count);
    await assertNothingLeaks(mount);
  });
  return waitsMs.sort((a, b) => a - b);
}

/** What is here stays so, whatever happens to the daemon from now on; else the last second may be lost. */
async function writeDown(mount: EbbMount): Promise<void> {
  const replaced = await mount.ebb(['daemon', 'restart', mount.path], {
    timeoutMs: 2 * answerMaxMs,
  });
  assert.equal(replaced.code, 0, replaced.stderr.toString());
  await mount.currentPid();
}

interface Held {
  readonly found: string;
  readonly right: string;
}

/** The file that tests bring here, and the one that they leave cold. */
function heldIn(mount: EbbMount): readonly [here: Held, cold: Held] {
  const held = (name: string): Held => ({
    found: path.join(mount.path, name),
    right: path.join(source, name),
  });
  return [held('held/here.bin'), held('held/cold.bin')];
}

async function untilRight({ found, right }: Held): Promise<void> {
  const isRight = async (): Promise<boolean> =>
    (await readFile(found)).equals(await readFile(right));
  await waitFor(isRight, { what: 'the file that was not here', timeoutMs: answerMaxMs });
}

test('the daemon dies while a remote directory is away: what is here is served, the rest when it is back', async () => {
  await using place = await temporaryDirectory('successor-away');
  const remote = path.join(place.path, 'remote');
  await cp(source, remote, { recursive: true });
  await withEbb({ remote }, async (mount) => {
    const [here, cold] = heldIn(mount);
    assert.deepEqual(await readFile(here.found), await readFile(here.right));
    await writeDown(mount);
    await rename(remote, `${remote}.away`);
    const { pid } = mount;
    await mount.kill();
    assert.deepEqual(await readFile(here.found), await readFile(here.right));
    await assert.rejects(readFile(cold.found), { code: 'EIO' });
    assert.notEqual(await mount.currentPid(), pid);
    await rename(`${remote}.away`, remote);
    await untilRight(cold);
  });
});

test('the daemon dies while a disk is not mounted: its empty mount point is not taken for the remote', async () => {
  await using place = await temporaryDirectory('successor-unmounted');
  const remote = place.path;
  const bind = async (): Promise<void> => {
    assert.equal((await run('mount', ['--bind', source, remote])).code, 0);
  };
  await bind();
  try {
    await withEbb({ remote, options: ['--ttl', '0'] }, async (mount) => {
      const [, cold] = heldIn(mount);
      const names = (await readdir(mount.path)).sort();
      await writeDown(mount);
      await run('umount', ['--lazy', remote]);
      await mount.kill();
      assert.deepEqual((await readdir(mount.path)).sort(), names);
      await assert.rejects(readFile(cold.found), { code: 'EIO' });
      await bind();
      await untilRight(cold);
      assert.deepEqual((await readdir(mount.path)).sort(), names);
    });
  } finally {
    await run('umount', ['--lazy', remote]);
  }
});

test('the daemon dies while the server of a remote directory does not answer: the same', async () => {
  await withEbb({ remote: source }, async (server) => {
    await withEbb({ remote: server.path }, async (mount) => {
      const [here, cold] = heldIn(mount);
      assert.deepEqual(await readFile(here.found), await readFile(here.right));
      await writeDown(mount);
      const stopped = [server.supervisorPid, await server.currentPid()];
      for (const pid of stopped) process.kill(pid, 'SIGSTOP');
      try {
        await mount.kill();
        const read = await run('cmp', [here.found, here.right], { timeoutMs: answerMaxMs });
        assert.equal(read.code, 0, read.stderr.toString());
      } finally {
        for (const pid of stopped) process.kill(pid, 'SIGCONT');
      }
      const same = await run('cmp', [cold.found, cold.right], { timeoutMs: answerMaxMs });
      assert.equal(same.code, 0, same.stderr.toString());
      assert.equal((await mount.status()).restarts, 2);
    });
  });
});

test(`killed ${rounds} times under readers: no call fails, no byte is wrong, nothing leaks`, async (context) => {
  const waitsMs = await crashes({}, rounds);
  const at = (part: number): string => (waitsMs[Math.floor(part * (rounds - 1))] ?? 0).toFixed(0);
  context.diagnostic(`ten calls around a kill took ${at(0.5)} ms (median), at most ${at(1)} ms`);
});

test('the same for a mount without privileges, through fusermount3', async () => {
  await crashes({ options: ['--unprivileged'] }, Math.ceil(rounds / 2));
});

test('ebb daemon restart under load: no call fails, what is open stays open', async () => {
  await withEbb({ remote: source, standby: true }, async (mount) => {
    using holder = new Holder(mount.path);
    await holder.open();
    const place = { helper, mount: mount.path, source, names };
    await using stress = startStress({ ...place, readers, seconds: 86_400, seed });
    for (const restarts of [1, 2]) {
      const before = await mount.currentPid();
      const replaced = await mount.ebb(['daemon', 'restart', '--json', mount.path], {
        timeoutMs: 2 * answerMaxMs,
      });
      assert.equal(replaced.code, 0, replaced.stderr.toString());
      const said = JSON.parse(replaced.stdout.toString()) as { pid: number; restarts: number };
      assert.equal(said.restarts, restarts);
      assert.notEqual(said.pid, before);
      await holder.read(restarts * 999_999);
    }
    assertUntouched(await stress.stop(answerMaxMs), 'restarted');
    assert.ok((await holder.close()) > 0);
    await mount.currentPid();
    await assertNothingLeaks(mount);
  });
});

test('a file that was replaced at the remote stays the old one for who has it open, or is an error', async () => {
  const root = path.join(directory.path, 'changing');
  const writer = new CorpusWriter(root);
  writer.bytes('all', heldBytes);
  writer.bytes('half', heldBytes);
  const model = path.join(directory.path, 'model');
  await run('cp', ['-a', root, model]);
  await withEbb({ remote: root, options: ['--ttl', '0'] }, async (mount) => {
    using hammer = new ServingHammer(helper);
    const open = (handle: number, name: string): Promise<string> =>
      hammer.ask(`open ${handle} ${path.join(mount.path, name)} ${path.join(model, name)}`);
    assert.equal((await mount.ebb(['get', '-q', path.join(mount.path, 'all')])).code, 0);
    assert.equal(await open(0, 'all'), 'ok 0');
    assert.equal(await open(1, 'half'), 'ok 0');
    assert.equal(await hammer.ask('pread 1 0 4096'), 'ok 4096');
    await untilDurable(mount, heldBytes + chunkBytes);
    for (const name of ['all', 'half']) {
      writeFileSync(path.join(root, `${name}.new`), Buffer.alloc(heldBytes, name));
      await run('mv', [path.join(root, `${name}.new`), path.join(root, name)]);
    }
    await mount.kill();
    assert.equal(await hammer.ask('pread 0 4000000 100000', answerMaxMs), 'ok 100000');
    assert.equal(await hammer.ask('pread 1 0 4096', answerMaxMs), 'ok 4096');
    assert.match(await hammer.ask('pread 1 4000000 100000', answerMaxMs), /^errno/);
    const now = await run('cmp', [path.join(mount.path, 'half'), path.join(root, 'half')]);
    assert.equal(now.code, 0, now.stderr.toString());
  });
});

const failing = path.join(import.meta.dirname, '../support/failing-mount-main.ts');

test('a daemon that cannot be started: readers wait, ebb umount frees them', async () => {
  const flag = path.join(directory.path, 'fails');
  const env = { EBB_MOUNT_MAIN: failing, EBB_FAIL_WHILE: flag };
  await using mount = await mountEbb({ remote: source, env, standby: true });
  writeFileSync(flag, '');
  await killEveryDaemon(mount);
  const reading = run('cat', [path.join(mount.path, 'held/cold.bin')], { timeoutMs: answerMaxMs });
  const gone = await mount.ebb(['umount', mount.path], { timeoutMs: answerMaxMs });
  assert.equal(gone.code, 0, gone.stderr.toString());
  const { code, timedOut } = await reading;
  assert.equal(timedOut, false, 'the reader hangs');
  assert.notEqual(code, 0);
  assert.equal(mountAt(readMountInfo(), mount.path), undefined);
  await waitFor(() => mount.over(), { what: 'the supervisor to end', timeoutMs: answerMaxMs });
  rmSync(flag);
  await mount.remount();
  assert.ok(mount.alive());
});

/** The one that serves, and the one that waits to: so that the next one is started anew. */
async function killEveryDaemon(mount: EbbMount): Promise<void> {
  await mount.kill();
  await mount.killDaemons();
}

test(
  'no daemon can be started again and again: it is given up, who reads is told',
  { skip: rounds < 50 && 'takes half a minute: EBB_KILL_ROUNDS=50' },
  async () => {
    const flag = path.join(directory.path, 'fails');
    const env = { EBB_MOUNT_MAIN: failing, EBB_FAIL_WHILE: flag };
    await using mount = await mountEbb({ remote: source, env, standby: true });
    writeFileSync(flag, '');
    await killEveryDaemon(mount);
    const read = await run('cat', [path.join(mount.path, 'held/cold.bin')], {
      timeoutMs: 3 * answerMaxMs,
    });
    assert.match(read.stderr.toString(), /not connected|connection abort/);
    const ended = (): boolean => !processLives(mount.supervisorPid);
    await waitFor(ended, { what: 'the supervisor to give up', timeoutMs: answerMaxMs });
    const status = await mount.ebb(['status', mount.path]);
    assert.match(
      `${status.stdout.toString()}${status.stderr.toString()}`,
      /clean up with: ebb umount/,
    );
    assert.equal((await mount.ebb(['umount', mount.path])).code, 0);
    rmSync(flag);
  },
);

test('daemons that fail as they take over: started ever more slowly, and no call that waits is blamed', async () => {
  const cold = path.join(directory.path, 'taking over');
  const writer = new CorpusWriter(cold);
  for (const how of ['replaced', 'killed']) writer.bytes(how, 100_000);
  await withEbb({ remote: cold, standby: true }, async (mount) => {
    for (const how of ['replaced', 'killed'] as const) {
      const pid = await mount.currentPid();
      const record = readRunRecords(mount.runDirectory).find(
        ({ mountPoint }) => mountPoint === mount.path,
      );
      assert.ok(record !== undefined);
      const { log } = runFiles(mount.path, mount.runDirectory);
      const pauses = (): number => readFileSync(log, 'utf8').split('starts in 1000 ms').length;
      const pausesBefore = pauses();
      const aside = `${record.socketPath}.aside`;
      renameSync(record.socketPath, aside);
      // Nobody can listen there.
      mkdirSync(record.socketPath);
      if (how === 'killed') await mount.kill();
      else await new ControlClient({ ...record, socketPath: aside }).restart();
      const gone = (): boolean => !processLives(pid);
      await waitFor(gone, { what: 'the old daemon to end', timeoutMs: answerMaxMs });
      const reading = run('cmp', [path.join(mount.path, how), path.join(cold, how)], {
        timeoutMs: 2 * answerMaxMs,
      });
      await waitFor(() => pauses() > pausesBefore, {
        what: `a pause that grows (${how})`,
        timeoutMs: answerMaxMs,
      });
      // Neither the request that waits nor another one, though the daemon may have had it in hand.
      const journal = readFileSync(memoryFileOf(mount.supervisorPid, 'ebb-requests'));
      const { buffer } = Uint8Array.from(journal);
      assert.deepEqual(readJournal(new Float64Array(buffer)), { found: 0, deaths: new Map() });
      rmSync(record.socketPath, { recursive: true, force: true });
      const { code, stderr } = await reading;
      assert.equal(code, 0, `${stderr.toString()}\n${readFileSync(log, 'utf8')}`);
      assert.notEqual(await mount.currentPid(), pid);
    }
  });
});

test('the supervisor is killed: the daemon goes on, and can be found and unmounted', async () => {
  await withEbb({ remote: source, standby: true }, async (mount) => {
    process.kill(mount.supervisorPid, 'SIGKILL');
    await waitFor(() => !processLives(mount.supervisorPid), { what: 'the end' });
    const same = async (): Promise<boolean> => (await mount.status()).pid === mount.pid;
    await waitFor(same, { what: 'ebb status to find it', timeoutMs: answerMaxMs });
    const read = await run('cmp', [
      path.join(mount.path, 'held/cold.bin'),
      path.join(source, 'held/cold.bin'),
    ]);
    assert.equal(read.code, 0, read.stderr.toString());
    await mount.unmount();
    assert.equal(mountAt(readMountInfo(), mount.path), undefined);
  });
});
