/**
 * Daemons of a tree that follow one another at an awkward moment: while the tree is being taken away, while the one
 * before has not begun to serve. Whoever answers does so alone, and is not ended for what another one did.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runFiles } from '../../src/base/run-directory.ts';
import { ControlClient } from '../../src/cli/client.ts';
import type { TreeStatus } from '../../src/daemon/api.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { Holder } from '../support/holder.ts';
import { daemonsOf, killTogether, processLives, stopProcess } from '../support/processes.ts';
import { run, runOk } from '../support/run.ts';
import { mountsBelow, temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const endMaxMs = 15_000;
/** What a daemon gets until it serves. */
const restartMaxMs = 60_000;
/** How often a daemon is killed with a request on its way that may be lost. */
const attemptsMax = 10;
const reachMs = 150;
/** The request was lost, or it takes its time: whatever is true is seen next. */
const lostAfterMs = 750;

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-succession');
  source = path.join(directory.path, 'source');
  new CorpusWriter(source).bytes('large.bin', 9_000_000);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

function isShown(tree: AttachedTree): Promise<boolean> {
  return mountsBelow(tree.path).then((mounts) => mounts.length > 0);
}

function threadsOf(pid: number): string[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).map((tid) => readFileSync(`${tasks}/${tid}/comm`, 'utf8').trim());
}

/** Undefined: the kernel does not share the processor between sessions. */
function sessionNice(pid: number): number | undefined {
  const file = `/proc/${pid}/autogroup`;
  const nice = existsSync(file) ? / nice (-?\d+)/.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
  return nice === undefined ? undefined : Number(nice);
}

/** One that serves, and one that waits. */
async function untilTwoDaemons(supervisorPid: number): Promise<number[]> {
  return await waitFor(
    () => {
      const pids = daemonsOf(supervisorPid);
      return pids.length === 2 ? pids : undefined;
    },
    { what: 'a daemon that waits', timeoutMs: endMaxMs },
  );
}

/** The one of them that does not serve. */
async function waitingDaemon(supervisorPid: number, servingPid: number): Promise<number> {
  const [waiting = 0] = (await untilTwoDaemons(supervisorPid)).filter((one) => one !== servingPid);
  return waiting;
}

async function untilTwoThreads(pid: number): Promise<void> {
  await waitFor(() => threadsOf(pid).includes('fanotify'), {
    what: 'its second thread',
    timeoutMs: endMaxMs,
  });
}

/** Who serves the tree; undefined: it has been taken away. */
async function servedOrGone(tree: AttachedTree): Promise<TreeStatus | undefined> {
  const found = await waitFor(
    async () => ((await isShown(tree)) ? { status: await tree.status() } : { status: undefined }),
    { what: 'a daemon', timeoutMs: endMaxMs },
  );
  return found.status;
}

test('a daemon dies while the tree is taken away: its successor ends, too, before anybody else answers', async () => {
  await using tree = await AttachedTree.attach({
    type: 'xfs',
    remote: source,
    options: ['--whole-max', '0'],
    standby: true,
  });
  const { supervisorPid } = await tree.status();
  await untilTwoDaemons(supervisorPid);
  using holder = new Holder(path.join(tree.path, 'large.bin'));
  const elsewhere = path.join(directory.path, 'elsewhere');
  mkdirSync(elsewhere);
  try {
    assert.equal(await holder.said(), 'open');
    // It holds a polite attempt for 2 s, and who insists waits for that one.
    await runOk('mount', ['--bind', tree.path, elsewhere]);
    for (let attempt = 0; attempt < attemptsMax && (await isShown(tree)); attempt += 1) {
      const status = await servedOrGone(tree);
      if (status === undefined) break;
      const client = new ControlClient(tree.runRecord());
      const asked = [client.stop(false), client.stop(true)].map((one) => one.catch(() => 'lost'));
      // Time to reach the supervisor, more each time: no answer comes as long as the attempt lasts.
      await Promise.race([...asked, sleep(reachMs * (attempt + 1))]);
      killTogether([status.pid]);
      await Promise.all(asked);
      await waitFor(async () => !(await isShown(tree)), {
        what: 'the tree to be taken away',
        timeoutMs: lostAfterMs,
      }).catch(() => undefined);
    }
    assert.equal(await isShown(tree), false);
    await waitFor(() => daemonsOf(supervisorPid).length === 0, {
      what: 'all daemons to end',
      timeoutMs: endMaxMs,
    });
    assert.equal(await holder.read(6_000_000), '5', 'EIO');
    assert.ok(processLives(supervisorPid), 'somebody has to deny');
  } finally {
    holder[Symbol.dispose]();
    await run('umount', ['--lazy', elsewhere]);
  }
  await waitFor(() => !processLives(supervisorPid), {
    what: 'the supervisor to end with the last user',
    timeoutMs: endMaxMs,
  });
  await tree.attach();
  await runOk('cmp', [path.join(tree.path, 'large.bin'), path.join(source, 'large.bin')]);
});

test('who still uses a tree that was taken away is denied, also while nobody can find out who that is', async () => {
  const options = ['--whole-max', '0'];
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, options });
  const { supervisorPid } = await tree.status();
  const { log } = runFiles(tree.path, path.dirname(tree.runRecord().socketPath));
  using holder = new Holder(path.join(tree.path, 'large.bin'));
  assert.equal(await holder.said(), 'open');
  const lazily = tree.ebb(['umount', '--lazy', tree.path]);
  await waitFor(() => daemonsOf(supervisorPid).length === 0, {
    what: 'the daemons to end',
    timeoutMs: endMaxMs,
  });
  // /proc cannot be read without descriptors.
  await runOk('prlimit', ['--pid', String(supervisorPid), '--nofile=0:']);
  await waitFor(() => readFileSync(log, 'utf8').includes('EMFILE'), {
    what: 'a look that failed',
    timeoutMs: endMaxMs,
  });
  await runOk('prlimit', ['--pid', String(supervisorPid), '--nofile=1024:']);
  assert.equal(await holder.read(6_000_000), '5', 'EIO');
  holder[Symbol.dispose]();
  await waitFor(() => !processLives(supervisorPid), {
    what: 'the supervisor to end with the last user',
    timeoutMs: endMaxMs,
  });
  await lazily;
});

test('a daemon that waits and is stopped holds nothing once its supervisor is dead', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, standby: true });
  const { pid, supervisorPid } = await tree.status();
  const waiting = await waitingDaemon(supervisorPid, pid);
  // From then on it has to end with its supervisor.
  await untilTwoThreads(waiting);
  // So it cannot hear of anything any more.
  process.kill(waiting, 'SIGSTOP');
  killTogether([tree.keeperPid, supervisorPid]);
  try {
    await waitFor(() => !processLives(pid), { what: 'the daemon to end', timeoutMs: endMaxMs });
    await waitFor(() => !processLives(waiting), { what: 'the other one to end' });
  } finally {
    if (processLives(waiting)) process.kill(waiting, 'SIGKILL');
  }
  // Nobody is asked any more.
  const own = path.join(tree.filesystem.path, 'own');
  await runOk('sh', ['-c', 'echo mine >"$0" && cat "$0"', own], { timeoutMs: endMaxMs });
});

const failing = path.join(import.meta.dirname, '../support/failing-native-main.ts');

test('a daemon dies before it serves: the next one is not ended for it', async () => {
  const flag = path.join(directory.path, 'fail-once');
  const env = { EBB_NATIVE_MAIN: failing, EBB_FAIL_ONCE: flag };
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, env, standby: true });
  const { pid, supervisorPid } = await tree.status();
  await untilTwoDaemons(supervisorPid);
  // The next one is to be a new process, and the supervisor knows that who waited is gone. It makes good for it later.
  do {
    killTogether(daemonsOf(supervisorPid).filter((one) => one !== pid));
    await waitFor(() => daemonsOf(supervisorPid).length === 1, { what: 'its end' });
    writeFileSync(flag, '');
  } while (daemonsOf(supervisorPid).length > 1);
  const diedAtMs = performance.now();
  process.kill(pid, 'SIGKILL');
  const { restarts } = await waitFor(() => tree.status(), { what: 'it', timeoutMs: endMaxMs });
  assert.ok(!existsSync(flag), 'one has ended before it served');
  // One that is too slow is ended as well.
  if (performance.now() - diedAtMs < restartMaxMs) assert.equal(restarts, 2);
  await runOk('cmp', [path.join(tree.path, 'large.bin'), path.join(source, 'large.bin')]);
});

test('a daemon that is awaited goes before other work until it serves', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, standby: true });
  const { pid, supervisorPid } = await tree.status();
  const waiting = await waitingDaemon(supervisorPid, pid);
  await untilTwoThreads(waiting);
  const own = getPriority();
  const before = sessionNice(supervisorPid);
  // So it takes as long as we like.
  await stopProcess(waiting);
  try {
    process.kill(pid, 'SIGKILL');
    await waitFor(() => getPriority(waiting) < own, { what: 'its priority', timeoutMs: endMaxMs });
    if (before !== undefined) assert.notEqual(sessionNice(supervisorPid), before);
  } finally {
    process.kill(waiting, 'SIGCONT');
  }
  const status = await waitFor(() => tree.status(), { what: 'a daemon', timeoutMs: endMaxMs });
  // It may have loaded no more than its threads by then.
  await waitFor(
    () => readdirSync(`/proc/${status.pid}/task`).every((tid) => getPriority(Number(tid)) === own),
    { what: 'its threads to be like others', timeoutMs: endMaxMs },
  );
  await waitFor(() => sessionNice(supervisorPid) === before, {
    what: 'its session to be as before',
  });
});

test('a tree is taken away while its daemon is being replaced: ebb umount waits for the next one', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source, standby: true });
  const { pid, supervisorPid } = await tree.status();
  const waiting = await waitingDaemon(supervisorPid, pid);
  await untilTwoThreads(waiting);
  await stopProcess(waiting);
  let unmounted: Promise<unknown>;
  try {
    process.kill(pid, 'SIGKILL');
    await waitFor(() => !processLives(pid), { what: 'its end' });
    unmounted = tree.ebbUnshared(['umount', tree.path]);
    // It asks while nobody answers; on a busy machine perhaps only afterwards.
    await sleep(1_000);
  } finally {
    process.kill(waiting, 'SIGCONT');
  }
  await unmounted;
  assert.deepEqual(await mountsBelow(tree.path), []);
});

test('--no-standby: none waits, and a daemon that dies is replaced all the same', async () => {
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: source });
  const { pid, supervisorPid } = await tree.status();
  process.kill(pid, 'SIGKILL');
  await waitFor(() => !processLives(pid), { what: 'its end' });
  await runOk('cmp', [path.join(tree.path, 'large.bin'), path.join(source, 'large.bin')]);
  const status = await waitFor(() => tree.status(), { what: 'a daemon', timeoutMs: endMaxMs });
  assert.deepEqual(daemonsOf(supervisorPid), [status.pid]);
});
