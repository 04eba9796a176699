/**
 * What a service manager kept of a tree, and a supervisor that cannot simply go on with it (I9): whatever is wrong, one
 * supervisor at a time answers, and nobody reads made-up data. ext4: a stub that nobody guards is zeros there.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { readMountInfo, mountAt } from '../../src/base/mount-info.ts';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { attachInVain } from '../support/deaths.ts';
import { ServingHammer } from '../support/hammer.ts';
import { attachAsService, memoryFileOf } from '../support/kept-service.ts';
import { childrenOf, killTogether, processLives } from '../support/processes.ts';
import type { KeptService } from '../support/kept-service.ts';
import { patience } from '../support/patience.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const endMaxMs = 60_000;
/** So long a supervisor waits for what its manager says (descriptor-store.ts). */
const managerMaxMs = 10_000;
const timeout = patience * 300_000;
const name = 'big.bin';
const EIO = 'errno 5';

let directory: TemporaryDirectory;
let source: string;
let helper: string;

before(async () => {
  directory = await temporaryDirectory('native-kept-refused');
  source = path.join(directory.path, 'source');
  new CorpusWriter(source).bytes(name, 2_000_000);
  helper = await compileHelper(directory.path, 'hammer');
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

async function openCold({ tree }: KeptService, from: string): Promise<ServingHammer> {
  const hammer = new ServingHammer(helper);
  const places = [path.join(tree.path, name), path.join(from, name)];
  assert.equal(await hammer.ask(`open 0 ${places.join(' ')}`, endMaxMs), 'ok 0');
  return hammer;
}

async function killAll({ tree, manager }: KeptService): Promise<void> {
  const { pid, supervisorPid } = await tree.status();
  killTogether([manager.pids.at(-1) ?? 0, supervisorPid, pid]);
}

function runs(pid: number, script: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(script);
  } catch {
    return false;
  }
}

/** A tree is served by one supervisor and one daemon, and its bytes are right. */
async function assertServed({ tree }: KeptService, from: string): Promise<void> {
  const { pid, supervisorPid } = await waitFor(() => tree.status(), {
    what: 'a daemon that answers',
    timeoutMs: endMaxMs,
  });
  assert.ok(childrenOf(supervisorPid).includes(pid));
  const files = [path.join(tree.path, name), path.join(from, name)];
  const compared = await run('cmp', files, { timeoutMs: endMaxMs });
  assert.equal(compared.code, 0, compared.stderr.toString());
  await tree.ebbOk(['release', tree.path]);
}

test(
  'what cannot be gone on with is taken away, and who has it open gets EIO, not zeros',
  { timeout },
  async () => {
    const remote = path.join(directory.path, 'remote');
    const other = path.join(directory.path, 'other');
    for (const place of [remote, other]) new CorpusWriter(place).bytes(name, 2_000_000);
    const authorities = path.join(directory.path, 'authorities');
    writeFileSync(authorities, '');
    await using service = await attachAsService('ext4', remote, {
      options: ['--ca-file', authorities],
    });
    const { tree, manager, change } = service;
    const hasReady = (): number => manager.events.filter(({ event }) => event === 'ready').length;
    const makeForeign = async (): Promise<void> => {
      const file = memoryFileOf((await tree.status()).supervisorPid, 'ebb-facts');
      const text = readFileSync(file, 'latin1');
      assert.match(text, /"version":2/);
      writeFileSync(file, text.replace('"version":2', '"version":9'), 'latin1');
    };
    const forget = async (beginning: string): Promise<void> => {
      const before = manager.events.filter(({ event }) => event === 'forgotten').length;
      manager.forget(beginning);
      await manager.until('forgotten', before + 1);
    };
    const changes: readonly (readonly [string, () => unknown, () => unknown])[] = [
      ['another version has written the facts', makeForeign, () => undefined],
      ['something is not kept', () => forget('ebb-lock'), () => undefined],
      [
        'a file that the options name is gone',
        () => rmSync(authorities),
        () => writeFileSync(authorities, ''),
      ],
    ];
    for (const [what, spoil, mend] of changes) {
      using hammer = await openCold(service, remote);
      const ready = hasReady();
      const mount = mountAt(readMountInfo(), tree.path)?.mountId;
      await spoil();
      await killAll(service);
      assert.equal(await hammer.ask('pread 0 0 4096', endMaxMs), EIO, what);
      await waitFor(() => mountAt(readMountInfo(), tree.path)?.mountId !== mount, {
        what: `${what}: the tree to be taken away`,
        timeoutMs: endMaxMs,
      });
      assert.equal(hasReady(), ready, `${what}: attached while somebody has the old one open`);
      mend();
      await hammer.ask('close 0');
      await manager.until('ready', ready + 1);
    }
    await assertServed(service, remote);
    // Not a refusal: the tree is served while its remote is away.
    const away = `${remote}.away`;
    {
      const ready = hasReady();
      using hammer = await openCold(service, away.slice(0, -5));
      renameSync(remote, away);
      await killAll(service);
      assert.equal(await hammer.ask('pread 0 0 4096', endMaxMs), EIO);
      renameSync(away, remote);
      await manager.until('ready', ready + 1);
    }
    using hammer = await openCold(service, remote);
    change((command) => [...command.slice(0, -1), other]);
    await killAll(service);
    assert.equal(await hammer.ask('pread 0 0 4096', endMaxMs), EIO);
    await hammer.ask('close 0');
    assert.equal((await manager.until('ended', 1)).code, 3);
    assert.deepEqual(readdirSync(tree.path), ['.ebb']);
  },
);

test(
  'a unit with wrong options: what is kept is let go in order before the service fails',
  { timeout },
  async () => {
    await using service = await attachAsService('ext4', source);
    const { tree, manager, change } = service;
    using hammer = await openCold(service, source);
    change((command) => [...command, '--no-such-option']);
    await killAll(service);
    assert.equal(await hammer.ask('pread 0 0 4096', endMaxMs), EIO);
    await hammer.ask('close 0');
    assert.equal((await manager.until('ended', 1)).code, 2);
    assert.deepEqual(readdirSync(tree.path), ['.ebb']);
  },
);

test(
  'a mount that covers the tree takes nothing away: it is guarded until it can be',
  { timeout },
  async () => {
    await using service = await attachAsService('ext4', source);
    const { tree, manager } = service;
    using hammer = await openCold(service, source);
    let unmounted: Promise<unknown> | undefined;
    await runOk('mount', ['-t', 'tmpfs', 'cover', tree.path]);
    try {
      await killAll(service);
      // Denied, or right: one may have been killed before it was asked.
      await manager.until('ready', 2);
      assert.equal(await hammer.ask('pread 0 0 4096', endMaxMs), 'ok 4096');
      const refused = await tree.ebb(['umount', tree.path]);
      assert.equal(refused.code, 3, refused.stderr.toString());
      const { pid, supervisorPid } = await tree.status();
      // It waits a moment for the supervisor to end, which it does not yet.
      unmounted = tree.ebbOk(['umount', '-l', tree.path]);
      await waitFor(() => !processLives(pid), { what: 'the daemon to end', timeoutMs: endMaxMs });
      // Of another range: what is here is here.
      assert.equal(await hammer.ask('pread 0 1500000 4096', endMaxMs), EIO);
      await hammer.ask('close 0');
      assert.ok(processLives(supervisorPid), 'nobody guards the tree below');
    } finally {
      await runOk('umount', [tree.path]);
    }
    await unmounted;
    assert.equal((await manager.until('ended', 1)).code, 0);
    assert.deepEqual(readdirSync(tree.path), ['.ebb']);
  },
);

test('one supervisor at a time, whichever stops or dies in between', { timeout }, async () => {
  await using service = await attachAsService('xfs', source, { standby: true });
  const { tree, manager } = service;
  const neighbour = path.join(tree.filesystem.path, 'neighbour');
  writeFileSync(neighbour, 'of nobody');
  // A daemon that waits and does nothing any more.
  const { pid, supervisorPid } = await tree.status();
  const standby = await waitFor(() => childrenOf(supervisorPid).find((child) => child !== pid), {
    what: 'a daemon that waits',
    timeoutMs: endMaxMs,
  });
  process.kill(standby, 'SIGSTOP');
  await killAll(service);
  await manager.until('ready', 2);
  await waitFor(() => !processLives(standby), { what: 'its end', timeoutMs: endMaxMs });
  await assertServed(service, source);
  // A successor that is stopped at its start, or as it takes over, and whose main process dies.
  for (const hasBegun of [false, true]) {
    const stored = manager.events.filter(({ event }) => event === 'stored').length;
    const starts = manager.pids.length;
    await killAll(service);
    await manager.until('started', starts + 1);
    const main = manager.pids[starts] ?? 0;
    const stopped = await waitFor(
      () => childrenOf(main).find((pid) => runs(pid, 'supervisor/main.ts')),
      {
        what: 'the next supervisor',
        intervalMs: 1,
        timeoutMs: endMaxMs,
      },
    );
    if (hasBegun) await manager.until('stored', stored + 1);
    process.kill(stopped, 'SIGSTOP');
    process.kill(main, 'SIGKILL');
    await manager.until('started', starts + 2);
    // The one that was stopped may have come so far that its daemon answers, until the next one has ended that.
    const isAnother = async (): Promise<number | undefined> => {
      const { supervisorPid } = await tree.status();
      return supervisorPid === stopped ? undefined : supervisorPid;
    };
    const served = await waitFor(isAnother, {
      what: 'another supervisor',
      timeoutMs: endMaxMs,
    });
    if (processLives(stopped)) process.kill(stopped, 'SIGCONT');
    await waitFor(() => !processLives(stopped), { what: 'its end', timeoutMs: endMaxMs });
    await assertServed(service, source);
    assert.equal((await tree.status()).supervisorPid, served);
  }
  // A manager that does not answer keeps nobody else on that file system waiting.
  const last = (await tree.status()).supervisorPid;
  const silentFromMs = performance.now();
  manager.signal('SIGSTOP');
  const unmounted = tree.ebbUnshared(['umount', tree.path]);
  await waitFor(() => childrenOf(last).length === 0, {
    what: 'the daemons to end',
    timeoutMs: endMaxMs,
  });
  const read = await run('cat', [neighbour], { timeoutMs: endMaxMs });
  assert.equal(read.stdout.toString(), 'of nobody');
  const isWaitedFor = performance.now() - silentFromMs < managerMaxMs;
  if (isWaitedFor) assert.ok(processLives(last), 'it was not waiting for the manager at all');
  manager.signal('SIGCONT');
  await unmounted;
  assert.deepEqual((await manager.until('ended', 1)).stored, []);
});

test('stopped while it is being attached: nothing is left', { timeout }, async () => {
  const script = "process.on('message', ({ kind }) => kind === 'end' && process.exit(1));\n";
  await using vain = await attachInVain(source, script, ['--foreground']);
  const supervisor = await waitFor(
    () =>
      childrenOf(vain.pid).find((pid) =>
        childrenOf(pid).some((one) => runs(one, vain.daemonScript)),
      ),
    { what: 'the daemon', timeoutMs: endMaxMs },
  );
  process.kill(vain.pid, 'SIGTERM');
  assert.equal(await vain.ended, 1);
  await waitFor(() => !processLives(supervisor), { what: 'its end', timeoutMs: endMaxMs });
  assert.equal(mountAt(readMountInfo(), vain.tree), undefined);
});
