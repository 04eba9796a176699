/** Readers of large files whom the event thread lets in by itself, and everybody whom it must not let in. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'node:test';
import { StubChange } from '../../src/base/stub-facts.ts';
import { OpenFlag } from '../../src/sys/fd.ts';
import { decodeHandle, openByHandle } from '../../src/sys/handle.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';
import { truncateFile } from '../../src/tree/truncate.ts';
import { patternBytes } from '../support/pattern.ts';
import { killAtExit } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const chunk = 256 * KiB;
const sizeBytes = 3 * MiB + 7;
const types = ['ext4', 'xfs', 'btrfs'] as const;

/** A stub that the event thread knows, through a mount that it knows: nothing of it is here but its first chunk. */
async function addKnown(scene: NativeScene, name: string, mode = 0o644): Promise<StubFile> {
  const file = scene.add(name, sizeBytes, { mode });
  // Nothing of the policy brings more than a chunk for this one.
  await scene.shellOk(`cp /bin/dd "$SCRATCH/clamd"
    "$SCRATCH/clamd" if=${name} bs=4k count=1 status=none > /dev/null`);
  assert.equal(scene.fetchedBytes(), chunk);
  return file;
}

for (const type of types) {
  test(`${type}: who reads a large file again is let in without main, which hears of it`, async () => {
    await using scene = await nativeScene(type);
    const file = await addKnown(scene, 'f');
    const bytes = patternBytes(1, sizeBytes);
    // Main is asked where a reader was looked at before he slept.
    const before = scene.expected.length;
    let opened = 0;
    let isLetIn = false;
    while (!isLetIn || opened < 5) {
      opened += 1;
      assert.ok(opened < 25, 'one in many is let in at once');
      const { opens } = scene.server.counters();
      const { stdout } = await scene.shell(`tail -c ${opened * 100_000} f`);
      assert.ok(stdout.equals(bytes.subarray(sizeBytes - opened * 100_000)));
      isLetIn ||= scene.server.counters().opens === opens;
    }
    await waitFor(() => scene.expected.length >= before + opened, { what: 'all are told' });
    assert.ok(scene.expected.every((id) => id === file.id));
    assert.ok(!file.residency.complete);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: a reader who was let in keeps his file from being released, and reads on`, async () => {
    await using scene = await nativeScene(type);
    const file = await addKnown(scene, 'f');
    const reader = spawn('/bin/sh', ['-c', 'exec 3< f; echo open; read -r _; tail -c 9 <&3'], {
      cwd: scene.path,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    killAtExit(reader);
    const [said] = (await once(reader.stdout, 'data')) as [Buffer];
    assert.equal(said.toString(), 'open\n');
    assert.equal((await scene.release(file)).released, false);
    reader.stdin.end('\n');
    const [read] = (await once(reader.stdout, 'data')) as [Buffer];
    assert.ok(read.equals(patternBytes(1, 9, sizeBytes - 9)));
    await once(reader, 'exit');
    await waitFor(async () => (await scene.release(file)).released, { what: 'its release' });
    assert.ok((await scene.shell('cat f')).stdout.equals(patternBytes(1, sizeBytes)));
  });

  test(`${type}: who needs more at open than to read is main’s`, async () => {
    await using scene = await nativeScene(type);
    const isHere = (file: StubFile): void => {
      assert.ok(file.residency.complete, file.key);
    };
    await scene.shellOk('for p in updatedb restic; do cp /bin/head "$SCRATCH/$p"; done');
    const denied = await addKnown(scene, 'denied');
    const { stderr } = await scene.shell('"$SCRATCH/updatedb" -c 1 denied');
    assert.match(stderr.toString(), /Operation not permitted/);
    assert.equal(denied.residency.residentChunks, 1);

    const whole = await addKnown(scene, 'whole');
    await scene.shellOk('"$SCRATCH/restic" -c 1 whole > /dev/null');
    isHere(whole);
    scene.fetchedBytes();

    const program = await addKnown(scene, 'program', 0o755);
    await scene.shellOk('head -c 1 program > /dev/null');
    isHere(program);
    scene.fetchedBytes();

    if (type === 'ext4') {
      const probed = await addKnown(scene, 'probed');
      const { stdout } = await scene.shell('cp probed "$SCRATCH/copy"; cat "$SCRATCH/copy"');
      assert.ok(stdout.equals(patternBytes(1, sizeBytes)));
      isHere(probed);
      scene.fetchedBytes();
    }

    const written = await addKnown(scene, 'written');
    await scene.shellOk('printf x >> written');
    isHere(written);
    assert.notEqual(written.change, StubChange.clean);
    const { stdout } = await scene.shell('cat written');
    assert.ok(stdout.equals(Buffer.concat([patternBytes(1, sizeBytes), Buffer.from('x')])));
    scene.fetchedBytes();

    const emptied = await addKnown(scene, 'emptied');
    const program32 = 'import os; os.open("emptied", os.O_RDONLY | os.O_TRUNC)';
    await scene.shellOk(`python3 -c '${program32}'`);
    assert.notEqual(emptied.change, StubChange.clean);
    assert.equal(await scene.shellOk('cat emptied'), '');
    assert.equal(scene.fetchedBytes(), 0);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: a file that was cut past us is refused at open, also when it is known`, async () => {
    await using scene = await nativeScene(type);
    const file = await addKnown(scene, 'f');
    using fd = openByHandle(scene.store.rootFd, decodeHandle(file.handle), OpenFlag.rdwr);
    truncateFile(fd.fd, MiB);
    fd.close();
    const { stderr, stdout } = await scene.shell('tail -c 10 f');
    assert.match(stderr.toString(), /cannot open .*: Input\/output error/);
    assert.equal(stdout.length, 0);
  });
}

test('who opens without a system call that shows it, and who comes through another mount, is main’s', async () => {
  await using scene = await nativeScene('xfs');
  const file = await addKnown(scene, 'f');
  const { opens } = scene.server.counters();
  // openat2(2) has its flags in memory.
  const openat2 = `import ctypes, os, struct
how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
fd = ctypes.CDLL(None).syscall(437, -100, b"f", how, len(how))
assert fd >= 0
print(os.pread(fd, 4, 2000000).hex())`;
  const said = await scene.shellOk(`python3 -c '${openat2}'`);
  assert.equal(said.trim(), patternBytes(1, 4, 2_000_000).toString('hex'));
  assert.equal(scene.server.counters().opens, opens + 1);
  const bound = path.join(scene.scratch, 'bound');
  const script = `mkdir ${bound}; mount --bind . ${bound}; tail -c 4 ${bound}/f | od -An -tx1`;
  const tail = await scene.shellOk(`unshare -m /bin/sh -c '${script}'`);
  assert.equal(tail.replaceAll(/\s/g, ''), patternBytes(1, 4, sizeBytes - 4).toString('hex'));
  assert.equal(scene.server.counters().opens, opens + 2);
  assert.equal(file.change, StubChange.clean);
});
