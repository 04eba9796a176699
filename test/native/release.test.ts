/** Release under a served native tree: who comes meanwhile, and that events come again afterwards. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { TreeReleaser } from '../../src/daemon/native/tree-releaser.ts';
import { OpenFlag } from '../../src/sys/fd.ts';
import { decodeHandle, openByHandle } from '../../src/sys/handle.ts';
import { truncateFile } from '../../src/tree/truncate.ts';
import { compileHelper } from '../probes/probe.ts';
import { startStress } from '../support/hammer.ts';
import { patience } from '../support/patience.ts';
import { patternBytes } from '../support/pattern.ts';
import { killAtExit } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** Per file system. */
const stressSeconds = Number(process.env['EBB_STRESS_SECONDS'] ?? 3);

/** Read to its end, durable, and with ignore marks. */
async function bringAll(scene: NativeScene, file: StubFile, name: string): Promise<void> {
  await scene.shellOk(`cat ${name} > /dev/null`);
  await scene.store.settled(file.id);
  await scene.shellOk(`cat ${name} > /dev/null; cat ${name} > /dev/null`);
}

// Not ext4: giving a stub its size is a truncate there, which is a change to the kernel.
for (const type of ['xfs', 'btrfs'] as const) {
  test(`${type}: making, recalling and releasing a stub is no change that anybody hears of`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB + 7);
    await bringAll(scene, file, 'f');
    assert.equal((await scene.release(file)).released, true);
    await scene.server.changesTakenIn();
    assert.equal(scene.changes, 0);
    await scene.shellOk('printf x >> f');
    await scene.server.changesTakenIn();
    assert.ok(scene.changes > 0, 'but what users do is heard of');
  });
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: what was released is recalled, as often as that is`, async () => {
    await using scene = await nativeScene(type);
    const sizeBytes = 3 * MiB + 7;
    const file = scene.add('f', sizeBytes);
    for (let round = 0; round < 3; round += 1) {
      await bringAll(scene, file, 'f');
      assert.equal(scene.fetchedBytes(), sizeBytes);
      assert.equal((await scene.release(file)).released, true);
      assert.ok(
        (await scene.shell('tail -c 5 f')).stdout.equals(patternBytes(1, 5, sizeBytes - 5)),
      );
      assert.ok(scene.fetchedBytes() > 0, 'reading raises events again');
      assert.equal((await scene.release(file)).released, true);
    }
    assert.equal(file.change, 0);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: what runs, and what is pinned, stays; it goes when it does not any more`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('program', 0, { bytes: readFileSync('/bin/sleep'), mode: 0o755 });
    const running = spawn('/bin/sh', ['-c', 'cd "$0" && exec ./program 600', scene.path]);
    killAtExit(running);
    await waitFor(() => readlinkSync(`/proc/${running.pid}/exe`).endsWith('/program'), {
      what: 'the program to run',
    });
    const refusalOf = async (): Promise<string | undefined> => {
      const result = await scene.release(file);
      return result.released ? undefined : result.refusal;
    };
    assert.equal(await refusalOf(), 'open');
    running.kill('SIGKILL');
    await once(running, 'exit');
    scene.server.setPinned(file, true);
    assert.equal(await refusalOf(), 'pinned');
    scene.server.setPinned(file, false);
    await waitFor(async () => (await refusalOf()) === undefined, { what: 'its release' });
    assert.match(await scene.shellOk('./program --version'), /^sleep/);
  });

  test(`${type}: an opener whom no event announced keeps his file`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await bringAll(scene, file, 'f');
    const opener: { child?: ReturnType<typeof spawn> } = {};
    const before = scene.server.moment(file);
    await scene.server.changesTakenIn();
    const [result] = await scene.store.release([file], {
      prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
      isBusy: (id) => scene.server.isBusy(id),
      beforeFreeing: (fd, file) => {
        // Comes after the last look at the lease and before the ignore marks are taken off: the lease holds him up.
        const program = 'printf NEW | dd of=f bs=1 seek=9 conv=notrunc status=none; cksum < f';
        const child = spawn('/bin/sh', ['-c', program], { cwd: scene.path });
        opener.child = child;
        waitUntilHeldUp(child.pid ?? 0, 'break_lease');
        scene.server.beforeFreeing(fd, file, before);
      },
    });
    assert.ok(result && !result.released);
    assert.equal(result.refusal, 'opened meanwhile');
    const { child } = opener;
    assert.ok(child);
    if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
    const expected = patternBytes(1, 3 * MiB);
    expected.write('NEW', 9);
    assert.ok((await scene.shell('cat f')).stdout.equals(expected));
    await scene.server.changesTakenIn();
    assert.equal((await scene.release(file)).released, false);
  });

  test(`${type}: a file that was cut past us shows nothing that nobody wrote`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await scene.shellOk('head -c 1000 f > /dev/null');
    {
      using fd = openByHandle(scene.store.rootFd, decodeHandle(file.handle), OpenFlag.rdwr);
      truncateFile(fd.fd, 2 * MiB);
    }
    const read = await scene.shell('tail -c 1000 f');
    assert.match(read.stderr.toString(), /Input\/output error/);
    // It can be emptied and used again.
    await scene.shellOk('printf new > f; test "$(cat f)" = new');
    assert.equal(scene.store.get(file.id)?.change, 3);
  });

  test(`${type}: readers never see a wrong byte while everything is released`, async () => {
    await using scene = await nativeScene(type);
    const source = path.join(scene.scratch, 'source');
    mkdirSync(source);
    const names = Array.from({ length: 6 }, (_, index) => `f${index}`);
    for (const [index, name] of names.entries()) {
      writeFileSync(path.join(source, name), patternBytes(index, 700 * KiB + index * 333_333));
    }
    scene.addTree(source);
    const helper = await compileHelper(scene.scratch, 'hammer');
    await using stress = startStress({
      helper,
      mount: scene.path,
      source,
      names,
      readers: 4,
      seconds: stressSeconds + 60,
      seed: 1,
    });
    let released = 0;
    const endAtMs = performance.now() + stressSeconds * 1_000;
    while ((performance.now() < endAtMs || released === 0) && !stress.hasEnded) {
      for (const { id } of scene.catalog.page(0, 100)) {
        const file = scene.store.get(id);
        if (file !== undefined && (await scene.release(file)).released) released += 1;
      }
    }
    const reports = await stress.stop(60_000);
    for (const { wrong, errors } of reports) {
      assert.equal(wrong, undefined);
      assert.deepEqual(errors, {});
    }
    assert.ok(released > 0, 'nothing was released');
    assert.ok(reports.every(({ reads }) => reads > 0));
    assert.deepEqual(scene.problems, []);
  });
}

test("what was all here and was cut or grown while nobody listened is the user's", async () => {
  await using scene = await nativeScene('xfs');
  const files = [scene.add('cut', 3 * MiB), scene.add('grown', 3 * MiB), scene.add('empty', 0)];
  for (const [at, sizeBytes] of [2 * MiB, 3 * MiB + 5, 5].entries()) {
    const file = files[at] as StubFile;
    const requester = { pid: 0, uid: 0, gid: 0 };
    await scene.engine.ensure(file, 0, file.sizeBytes, { intent: 'get', requester });
    await scene.store.flush();
    using fd = openByHandle(scene.store.rootFd, decodeHandle(file.handle), OpenFlag.rdwr);
    truncateFile(fd.fd, sizeBytes);
  }
  const whole = patternBytes(1, 3 * MiB);
  assert.ok((await scene.shell('cat cut')).stdout.equals(whole.subarray(0, 2 * MiB)));
  const grown = Buffer.concat([whole, Buffer.alloc(5)]);
  assert.ok((await scene.shell('cat grown')).stdout.equals(grown));
  assert.ok((await scene.shell('cat empty')).stdout.equals(Buffer.alloc(5)));
  await scene.server.changesTakenIn();
  assert.deepEqual(
    files.map(({ change }) => change),
    [3, 3, 3],
  );
});

test('who opens a file with O_NONBLOCK at the moment of its release waits as others do', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', 3 * MiB);
  await bringAll(scene, file, 'f');
  const { store, server, memory, engine } = scene;
  const opened = new Set<Promise<string>>();
  const beforeFreeing = server.beforeFreeing.bind(server);
  server.beforeFreeing = (fd, one, before) => {
    // Whatever the others of the batch take: he comes before this one's turn.
    const program = `
import os
fd = os.open("f", os.O_RDONLY | os.O_NONBLOCK)
assert os.pread(fd, 4, 1000) == bytes.fromhex("${patternBytes(1, 4, 1000).toString('hex')}")`;
    const child = spawn('/bin/sh', ['-c', 'python3 -c "$0"; exit', program], { cwd: scene.path });
    opened.add(once(child, 'exit').then(([code]) => String(code)));
    waitUntilHeldUp(child.pid ?? 0, 'fanotify');
    beforeFreeing(fd, one, before);
  };
  const isBusy = (id: number): boolean => engine.isBusy(id);
  const releaser = new TreeReleaser({ store, server, remote: memory, isBusy });
  await releaser.release(file.id, { dryRun: false, signal: new AbortController().signal });
  assert.deepEqual(await Promise.all(opened), ['0']);
});

test('who opens a file that is just being released waits for that, and has it recalled', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', 3 * MiB);
  const requester = { pid: 0, uid: 0, gid: 0 };
  await scene.engine.ensure(file, 0, file.sizeBytes, { intent: 'get', requester });
  await scene.store.flush();
  const reading: { child?: ReturnType<typeof spawn> } = {};
  const before = scene.server.moment(file);
  const [result] = await scene.store.release([file], {
    prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
    isBusy: () => false,
    beforeFreeing: (fd, one) => {
      scene.server.beforeFreeing(fd, one, before);
      // There is no ignore mark: he is announced by an event, which is not read yet.
      const program = 'cat f > "$0"; exit $?';
      const copy = path.join(scene.scratch, 'copy');
      reading.child = spawn('/bin/sh', ['-c', program, copy], { cwd: scene.path });
      waitUntilHeldUp(reading.child.pid ?? 0, 'fanotify');
    },
    whileLeased: () => scene.server.turn.lease(),
  });
  assert.equal(result?.released, true);
  const { child } = reading;
  assert.ok(child);
  if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(child.exitCode, 0);
  assert.ok(readFileSync(path.join(scene.scratch, 'copy')).equals(patternBytes(1, 3 * MiB)));
});

/** Blocks this thread until a child of `pid` waits in a function of the kernel, or `pid` has ended. */
function waitUntilHeldUp(pid: number, where: string): void {
  const deadlineMs = performance.now() + patience * 10_000;
  for (;;) {
    if (performance.now() > deadlineMs) throw new Error(`nobody waits in ${where}`);
    if (isHeldUp(pid, where) || hasEnded(pid)) return;
  }
}

/** Nobody has heard of it yet, while this thread does not. */
function hasEnded(pid: number): boolean {
  return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

function isHeldUp(shellPid: number, where: string): boolean {
  try {
    const children = readFileSync(`/proc/${shellPid}/task/${shellPid}/children`, 'latin1');
    for (const child of children.trim().split(' ')) {
      if (child === '') continue;
      if (readFileSync(`/proc/${child}/wchan`, 'latin1').includes(where)) return true;
    }
  } catch {
    // It has not come so far, or is another program already.
  }
  return false;
}
