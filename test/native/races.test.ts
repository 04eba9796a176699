/** Users who do something to a file at the very moment at which Ebb finds out, or records, what others did to it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess, ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { StubChange } from '../../src/base/stub-facts.ts';
import { TreeReleaser } from '../../src/daemon/native/tree-releaser.ts';
import { OpenFlag } from '../../src/sys/fd.ts';
import { decodeHandle, openByHandle } from '../../src/sys/handle.ts';
import type { ToMain } from '../../src/native/messages.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';
import { patternBytes } from '../support/pattern.ts';
import { killAtExit } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene, settle } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const { clean, intent, discarding, dirty } = StubChange;
const sizeBytes = 3 * 1024 * 1024 + 1_234;
/** Of a millisecond each, at the least. */
const looksMax = 60_000;

/** What `change` records from now on is preceded by `first`. */
function beforeRecording(scene: NativeScene, change: StubChange, first: () => Promise<void>): void {
  const { store } = scene;
  const setChange = store.setChange.bind(store);
  store.setChange = async (file, to) => {
    if (to === change) await first();
    await setChange(file, to);
  };
}

/** What users do is not told to the server until the function that is returned is called. */
function withholdChanges({ server }: NativeScene): () => void {
  const withheld: ToMain[] = [];
  const take = server.take.bind(server);
  server.take = (message) => {
    if (message.kind === 'changed') withheld.push(message);
    else take(message);
  };
  return () => {
    server.take = take;
    for (const message of withheld) take(message);
  };
}

/** The file is released, and what `whileAsked` writes while the remote is asked is told late: the user keeps it. */
async function expectKept(
  scene: NativeScene,
  file: StubFile,
  whileAsked: () => Promise<unknown>,
): Promise<void> {
  const { store, server, engine, memory } = scene;
  const told = withholdChanges(scene);
  const stat = memory.stat.bind(memory);
  memory.stat = async (key, options) => {
    await whileAsked();
    return await stat(key, options);
  };
  const isBusy = (id: number): boolean => engine.isBusy(id);
  const releaser = new TreeReleaser({ store, server, remote: memory, isBusy });
  const { signal } = new AbortController();
  const outcome = await releaser.release(file.id, { dryRun: false, signal });
  told();
  await expectContent(scene, 'f', withNew(2_000_000));
  assert.ok('refused' in outcome, JSON.stringify(outcome));
  await server.recorded(file.id);
  assert.equal(file.change, dirty);
}

async function expectContent(scene: NativeScene, name: string, expected: Buffer): Promise<void> {
  const { stdout, stderr } = await scene.shell(`cat ${name}`);
  assert.ok(stdout.equals(expected), `${name}: other bytes ${stderr.toString()}`);
}

function withNew(at: number): Buffer {
  const bytes = patternBytes(1, sizeBytes);
  bytes.write('new', at);
  return bytes;
}

/** Somebody who has written to `f`, and set its old time, and whom nobody will be told of before he ends. */
async function mapAndWrite(scene: NativeScene): Promise<ChildProcessWithoutNullStreams> {
  const program = `
import mmap, os, sys
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[2000000:2000003] = b"new"
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))
print("written", flush=True)
sys.stdin.readline()`;
  const writer = spawn('python3', ['-c', program], { cwd: scene.path });
  killAtExit(writer);
  await once(writer.stdout, 'data');
  return writer;
}

async function endOf(writer: ChildProcessWithoutNullStreams): Promise<void> {
  writer.stdin.end('\n');
  if (writer.exitCode === null) await once(writer, 'exit');
}

/** Somebody is let in to empty the file, and is killed before he can. */
async function killWhoEmpties(scene: NativeScene, file: StubFile): Promise<void> {
  const writer = spawn('/bin/sh', ['-c', 'cd "$0" && exec 3> f', scene.path]);
  killAtExit(writer);
  const gone = once(writer, 'exit');
  beforeRecording(scene, discarding, async () => {
    writer.kill('SIGKILL');
    await gone;
  });
  await waitFor(() => file.change === discarding, { what: 'the writer to be recorded' });
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: who was killed before he emptied a file has not emptied it, though its time is set then`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await killWhoEmpties(scene, file);
    // Without opening it: the kernel tells of it as of a write.
    await scene.shellOk('touch -c -m -d 2001-02-03 f');
    await scene.server.recorded(file.id);
    assert.notEqual(file.change, dirty);
    await expectContent(scene, 'f', patternBytes(1, sizeBytes));
    assert.equal(file.change, clean);
  });
}

test('what is all here can be read after somebody was killed before he emptied it, also renamed', async () => {
  const options = { policy: { deadlineMs: 15_000 }, commitIntervalMs: 3_600_000 };
  await using scene = await nativeScene('xfs', options);
  const file = scene.add('f', sizeBytes);
  await scene.shellOk('cat f > /dev/null');
  assert.ok(!file.residency.isRecorded, 'who empties it is asked about');
  await killWhoEmpties(scene, file);
  await scene.shellOk('mv f g');
  // As after a restart of the daemon.
  await scene.store.flush();
  scene.server.forget(file.id);
  await expectContent(scene, 'g', patternBytes(1, sizeBytes));
});

for (const type of ['ext4', 'btrfs'] as const) {
  test(`${type}: who writes after one who was killed before he emptied a file does not wait for himself`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await killWhoEmpties(scene, file);
    await scene.shellOk('printf x >> f');
    await expectContent(scene, 'f', Buffer.concat([patternBytes(1, sizeBytes), Buffer.from('x')]));
  });
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: who writes while the remote is asked, and sets the old time, keeps what he wrote`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    // As after a restart of the daemon: the kernel asks nobody, and nobody knows what the file was like.
    scene.server.forget(file.id);
    await expectKept(scene, file, () =>
      scene.shellOk(`python3 -c '
import os
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
os.pwrite(fd, b"new", 2000000)
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))'`),
    );
  });
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: who closes a mapping that he wrote to while the remote is asked keeps what he wrote`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    scene.server.forget(file.id);
    const writer = await mapAndWrite(scene);
    await expectKept(scene, file, () => endOf(writer));
  });
}

test('who writes through a mapping while the file is pinned keeps what he wrote', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', sizeBytes);
  await settle(scene, 'f', file);
  const program = `
import mmap, os
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[2000000:2000003] = b"new"
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))`;
  const { store, server } = scene;
  const setPinned = store.setPinned.bind(store);
  const ends: Promise<unknown>[] = [];
  store.setPinned = (one, pinned) => {
    setPinned(one, pinned);
    const child = spawn('python3', ['-c', program], { cwd: scene.path });
    killAtExit(child);
    ends.push(once(child, 'exit'));
    untilThroughOrHeldUp(child.pid ?? 0);
  };
  server.setPinned(file, false);
  assert.deepEqual(await Promise.all(ends), [[0, null]]);
  await server.recorded(file.id);
  assert.equal((await scene.release(file)).released, false);
  await expectContent(scene, 'f', withNew(2_000_000));
});

test('who closes a mapping that he wrote to when all that was done is taken in has changed the file', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', sizeBytes);
  await settle(scene, 'f', file);
  const { server } = scene;
  const asBefore = await server.recorded(file.id);
  assert.equal(asBefore(), true);
  await scene.shellOk('chmod 600 f');
  assert.equal(asBefore(), false);
  const withMode = await server.recorded(file.id);
  assert.equal(withMode(), true, 'a mode is no content');
  const { store } = scene;
  const changedAt = store.changedAt.bind(store);
  store.changedAt = () => {
    throw ebbError('EMFILE', 'no descriptor is left');
  };
  assert.equal(server.moment(file), undefined, 'what cannot be looked at may be changing');
  store.changedAt = changedAt;
  // The kernel asks nobody, and nobody knows what the file was like.
  server.forget(file.id);
  const writer = await mapAndWrite(scene);
  const told = withholdChanges(scene);
  const sinceMapped = await server.recorded(file.id);
  await endOf(writer);
  assert.equal(file.change, clean, 'nobody has heard of it');
  assert.equal(sinceMapped(), false);
  told();
  await server.recorded(file.id);
  assert.equal(file.change, dirty);
});

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: who got in unasked before a release was given up, and writes as others read, keeps it`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    await settle(scene, 'f', file);
    const { server, store } = scene;
    const writer = await mapAndWrite(scene);
    // He was past the open event, and not yet at the lease: the second try shows him, when events come again.
    const ctime = store.changedAt(file);
    assert.ok(ctime);
    const now = { ctime, atMs: Date.now() };
    store.closeOwn(file);
    using fd = openByHandle(store.rootFd, decodeHandle(file.handle), OpenFlag.rdonly);
    assert.throws(() => server.beforeFreeing(fd.fd, file, now), { code: 'EBUSY' });
    fd.close();
    await scene.shellOk('cat f > /dev/null; cat f > /dev/null');
    await server.changesTakenIn();
    await endOf(writer);
    await server.recorded(file.id);
    const result = await scene.release(file);
    await expectContent(scene, 'f', withNew(2_000_000));
    assert.equal(result.released, false);
    assert.equal(file.change, dirty);
  });
}

for (const type of ['ext4', 'xfs'] as const) {
  test(`${type}: who writes through a mapping while it is recorded that the last writer changed nothing`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    const second: { child?: ChildProcess } = {};
    const program = `
import mmap, os
before = os.stat("f")
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[2000000:2000003] = b"new"
os.utime("f", ns=(before.st_atime_ns, before.st_mtime_ns))
m.close()`;
    const { catalog } = scene;
    const setChange = catalog.setChange.bind(catalog);
    catalog.setChange = (rows) => {
      setChange(rows);
      if (second.child !== undefined || rows[0]?.change !== clean) return;
      const child = spawn('python3', ['-c', program], { cwd: scene.path });
      killAtExit(child);
      second.child = child;
      untilThroughOrHeldUp(child.pid ?? 0);
    };
    await scene.shellOk(`python3 -c 'import os; os.open("f", os.O_RDWR)'`);
    await waitFor(() => second.child !== undefined, { what: 'the first one to be recorded' });
    const { child } = second;
    assert.ok(child);
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(child.exitCode, 0);
    await waitFor(() => file.change !== intent, { what: 'what he did to be recorded' });
    await scene.server.recorded(file.id);
    const result = await scene.release(file);
    await expectContent(scene, 'f', withNew(2_000_000));
    assert.equal(result.released, false);
    assert.equal(file.change, dirty);
  });
}

test('what users changed is theirs: nobody is asked about it, and nobody told, until it is deleted', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', sizeBytes);
  // By a daemon before this one.
  await scene.store.setChange(file, dirty);
  // The kernel forgets that nobody is to be asked only about files that nobody has open.
  const holder = spawn('/bin/sh', ['-c', 'cd "$0" && exec 9< f && exec sleep 600', scene.path]);
  killAtExit(holder);
  await waitFor(() => readlinkSync(`/proc/${holder.pid}/exe`).endsWith('/sleep'), {
    what: 'somebody who has it open',
  });
  await scene.shellOk('cat f > /dev/null; echo a >> f');
  await scene.server.changesTakenIn();
  const { changes } = scene;
  const { opens, accesses } = scene.server.counters();
  await scene.shellOk('for i in 1 2 3 4 5; do echo b >> f; cat f > /dev/null; done');
  await scene.server.changesTakenIn();
  const after = scene.server.counters();
  assert.deepEqual([after.opens, after.accesses], [opens, accesses]);
  assert.equal(scene.changes, changes);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await scene.shellOk('rm f');
  await waitFor(() => scene.catalog.get(file.id) === undefined, { what: 'it to be forgotten' });
});

/** Blocks this thread until the process has ended, or waits for a lease to be given up. */
function untilThroughOrHeldUp(pid: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let looks = 0; looks < looksMax; looks += 1) {
    const state = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1];
    if (state?.startsWith('Z')) return;
    if (readFileSync(`/proc/${pid}/wchan`, 'latin1').includes('break_lease')) return;
    Atomics.wait(pause, 0, 0, 1);
  }
  assert.fail('the second writer does nothing');
}
