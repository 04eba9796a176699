/** Reading cold files of a served native tree: what is fetched, who is refused, and how failures end. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { createHash } from 'node:crypto';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { ebbError } from '../../src/base/errors.ts';
import { renameEntry } from '../../src/sys/entries.ts';
import { defaultNativePolicy } from '../../src/native/policy.ts';
import { fillPattern, patternBytes } from '../support/pattern.ts';
import { eventReads } from '../support/process-costs.ts';
import { killAtExit } from '../support/run.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const chunk = 256 * KiB;

/** Prints the name of the errno with which `action` on `path` fails, or `ok`. */
const attempt = (action: string): string => `python3 -c '
import errno, os, sys
path = sys.argv[1]
try:
    ${action}
    print("ok")
except OSError as error:
    print(errno.errorcode[error.errno])' `;

const readSome = attempt('os.pread(os.open(path, os.O_RDONLY), 4096, 0)');

test('one byte of a huge file costs one chunk; ten readers of it cost it once', async () => {
  await using scene = await nativeScene('xfs');
  scene.memory.putGenerated('huge', GiB, (into, offset) => fillPattern(into, 7, offset), {
    version: 'v-huge',
  });
  scene.stub('huge', GiB);
  const last = `dd if=huge bs=1 skip=${GiB - 1} count=1 status=none`;
  const script = `for i in 1 2 3 4 5 6 7 8 9 10; do ${last} & done; wait`;
  const { stdout } = await scene.shell(script);
  assert.ok(stdout.equals(Buffer.alloc(10, patternBytes(7, 1, GiB - 1))));
  assert.equal(scene.fetchedBytes(), chunk);
  assert.equal(scene.requests.length, 1);
});

test('who reads in order gets read-ahead, who jumps does not', async () => {
  await using scene = await nativeScene('xfs');
  const sizeBytes = 96 * MiB;
  scene.add('ordered', sizeBytes);
  const before = scene.requests.length;
  const sum = await scene.shellOk('sha256sum < ordered');
  assert.match(sum, new RegExp(sha256(patternBytes(1, sizeBytes))));
  assert.equal(scene.fetchedBytes(), sizeBytes);
  const requests = scene.requests.length - before;
  assert.ok(requests <= sizeBytes / MiB, `${requests} requests for ${sizeBytes / MiB} MiB`);
  assert.ok(scene.server.counters().accesses < 200, 'most reads are answered by the thread');

  scene.add('jumped', sizeBytes);
  for (const at of [70, 10, 50, 30, 90, 20]) {
    await scene.shellOk(`dd if=jumped bs=4k skip=$((${at} * 256)) count=1 status=none > /dev/null`);
  }
  assert.ok(scene.fetchedBytes() <= 6 * chunk);
});

test('what is all here for certain raises no event any more', async () => {
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await scene.shellOk('cat f > /dev/null');
    await scene.store.settled(file.id);
    // The next open tells the thread; those after it are the kernel's alone.
    await scene.shellOk('cat f > /dev/null; cat f > /dev/null');
    const isSilent = async (): Promise<boolean> => {
      const before = eventReads(process.pid);
      assert.ok(before > 0, 'it came here by events');
      await scene.shellOk('for i in 1 2 3 4 5 6 7 8 9; do cmp f f; cat f | cksum; done');
      return eventReads(process.pid) === before;
    };
    // Where memory is short the kernel may have forgotten meanwhile what it was told.
    await waitFor(isSilent, { what: `${type}: reads without an event` });
    assert.equal(file.change, 0, 'recalling is no change');
    assert.deepEqual(scene.problems, []);
  }
});

test('files that are not ours are the kernel’s alone: made, written, read, renamed, copied with our mark', async () => {
  await using scene = await nativeScene('ext4');
  scene.add('f', 5 * KiB);
  await scene.shellOk(`echo own > own; cat own; echo more >> own; mv own other; cmp other other; rm other
    cat f > /dev/null; cp f copy; setfattr -n trusted.ebb -v "$(getfattr -n trusted.ebb --only-values \
      --absolute-names -e hex f 2>/dev/null | od -An -v -tx1 | tr -d ' \\n' | sed s/^/0x/)" copy
    cmp f copy; echo tail >> copy; cat copy > /dev/null`);
  assert.equal(scene.server.counters().denied, 0);
  assert.deepEqual(scene.problems, []);
});

test('a denied program moves no byte and gets its errno; an exact one only its chunks', async () => {
  await using scene = await nativeScene('xfs', {
    policy: {
      verdicts: [
        { executable: 'busy', verdict: { deny: 'EBUSY' } },
        ...defaultNativePolicy.verdicts,
      ],
    },
  });
  scene.add('f', 20 * MiB);
  scene.add('small', 900 * KiB);
  await scene.shellOk('for p in updatedb clamd busy; do cp /bin/dd "$SCRATCH/$p"; done');
  const denied = await scene.shell('"$SCRATCH/updatedb" if=f count=1 of=/dev/null');
  assert.match(denied.stderr.toString(), /Operation not permitted/);
  const busy = await scene.shell('"$SCRATCH/busy" if=small count=1 of=/dev/null');
  assert.match(busy.stderr.toString(), /Device or resource busy/);
  assert.equal(scene.fetchedBytes(), 0);
  assert.equal(scene.server.counters().refused, 2);
  const reads = [0, 1, 2, 3].map((at) => `"$SCRATCH/clamd" if=f bs=64k skip=${at} count=1`);
  await scene.shellOk(
    `{ ${reads.join(';')}; "$SCRATCH/clamd" if=small bs=4k count=1; } 2> /dev/null`,
  );
  assert.equal(scene.fetchedBytes(), 2 * chunk);
});

const outcomes: readonly [code: ErrnoCode, seen: string][] = [
  ['EIO', 'EIO'],
  ['ENOENT', 'EIO'],
  ['ESTALE', 'EIO'],
  ['ETIMEDOUT', 'EIO'],
  ['EACCES', 'EPERM'],
  ['ENOSPC', 'ENOSPC'],
  ['EDQUOT', 'EDQUOT'],
];

test('a failing remote becomes an errno that the kernel takes, and reading is right again afterwards', async () => {
  await using scene = await nativeScene('btrfs');
  for (const [code, seen] of outcomes) {
    const sizeBytes = 3 * MiB + 5;
    scene.add(code, sizeBytes, { seed: sizeBytes });
    // Before what he waits for has come: he would be served.
    scene.fault = () => ({ kind: 'error', after: 10_000, error: { code, retryable: false } });
    assert.equal((await scene.shellOk(`${readSome} ${code}`)).trim(), seen, code);
    assert.equal(
      (await scene.shellOk(`${attempt('os.open(path, os.O_RDWR)')} ${code}`)).trim(),
      seen,
    );
    scene.fault = undefined;
    const { stdout } = await scene.shell(`cat ${code}`);
    assert.ok(stdout.equals(patternBytes(sizeBytes, sizeBytes)), code);
  }
});

test('a question has a deadline; a reader who is killed leaves nothing behind', async () => {
  await using scene = await nativeScene('xfs', { policy: { deadlineMs: 3_000 } });
  scene.add('f', 3 * MiB);
  scene.fault = () => ({ kind: 'stall' });
  assert.equal((await scene.shellOk(`${readSome} f`)).trim(), 'EIO');
  assert.equal(scene.server.counters().overdue, 1);

  const reader = spawn('cat', [path.join(scene.path, 'f')]);
  await pendingQuestions(scene, 1);
  reader.kill('SIGKILL');
  await pendingQuestions(scene, 0);
  scene.fault = undefined;
  const read = await scene.shell('cat f');
  assert.equal(read.stderr.toString(), '');
  assert.ok(read.stdout.equals(patternBytes(1, 3 * MiB)));
});

test('a reader who is stopped while he waits holds up nobody, and keeps his file', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', 3 * MiB);
  scene.add('g', 3 * MiB, { seed: 2 });
  scene.fault = ({ key }) => (key === 'f' ? { kind: 'delay', delayMs: 300 } : undefined);
  const reader = spawn('cat', [path.join(scene.path, 'f')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  killAtExit(reader);
  const read = buffer(reader.stdout);
  await pendingQuestions(scene, 1);
  reader.kill('SIGSTOP');
  assert.ok((await scene.shell('cat g')).stdout.equals(patternBytes(2, 3 * MiB)));
  assert.ok((await scene.shell('cat f')).stdout.equals(patternBytes(1, 3 * MiB)));
  await pendingQuestions(scene, 0);
  assert.equal((await scene.release(file)).released, false);
  reader.kill('SIGCONT');
  assert.ok((await read).equals(patternBytes(1, 3 * MiB)));
  assert.deepEqual(scene.problems, []);
});

test('stopping denies what waits and what comes; what is here goes on', async () => {
  await using scene = await nativeScene('xfs');
  scene.add('cold', 3 * MiB);
  const file = scene.add('warm', 3 * MiB);
  await scene.shellOk('cat warm > /dev/null');
  await scene.store.settled(file.id);
  await scene.shellOk('cat warm > /dev/null');
  scene.fault = () => ({ kind: 'stall' });
  const waiting = scene.shell('cat cold');
  await pendingQuestions(scene, 1);
  scene.server.close();
  assert.match((await waiting).stderr.toString(), /Input\/output error/);
  assert.match((await scene.shell('cat cold')).stderr.toString(), /Input\/output error/);
  assert.ok((await scene.shell('cat warm')).stdout.equals(patternBytes(1, 3 * MiB)));
});

test('deleted stubs are forgotten, with their last name and no earlier', async () => {
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    const other = scene.add('g', 3 * MiB);
    await scene.shellOk(
      'ln f link; rm f; cat link > /dev/null; exec 3< g; rm g; cat <&3 > /dev/null',
    );
    await waitFor(() => scene.catalog.get(other.id) === undefined, {
      what: `${type}: g forgotten`,
    });
    assert.notEqual(scene.catalog.get(file.id), undefined);
    await scene.shellOk('rm link');
    await waitFor(() => scene.catalog.get(file.id) === undefined, { what: `${type}: f forgotten` });
  }
});

test('a deletion that the catalog did not take is recorded when it does', async () => {
  await using scene = await nativeScene('xfs');
  const { store, problems } = scene;
  scene.add('f', 5);
  const forget = store.forget.bind(store);
  store.forget = () => {
    store.forget = forget;
    return Promise.reject(ebbError('ENOSPC', 'full'));
  };
  await scene.shellOk('rm f');
  await waitFor(() => scene.catalog.totals().stubs === 0, { what: 'no record', timeoutMs: 20_000 });
  assert.equal(problems.length, 1);
});

test('in a snapshot a stub is EIO; what was here, or users made or changed, is read', async () => {
  await using scene = await nativeScene('btrfs');
  for (const name of ['cold', 'part', 'here', 'changed', 'written']) scene.add(name, 3 * MiB);
  await scene.shellOk(`head -c 1 part; cat here > /dev/null; printf x >> changed
    echo own > own; echo own > written`);
  await scene.store.flush();
  await scene.server.changesTakenIn();
  const { path: root } = scene.filesystem;
  await scene.shellOk(`btrfs -q subvolume snapshot -r ${root} ${root}/snapshot`);
  const data = `${root}/snapshot/tree/.ebb/data`;
  scene.fetchedBytes();
  for (const name of ['cold', 'part']) {
    assert.equal((await scene.shellOk(`${readSome} ${data}/${name}`)).trim(), 'EIO', name);
  }
  for (const name of ['own', 'written']) {
    assert.equal(await scene.shellOk(`cat ${data}/${name}`), 'own\n', name);
  }
  const whole = patternBytes(1, 3 * MiB);
  const changed = Buffer.concat([whole, Buffer.from('x')]);
  assert.ok((await scene.shell(`cat ${data}/here`)).stdout.equals(whole));
  assert.ok((await scene.shell(`cat ${data}/changed`)).stdout.equals(changed));
  assert.equal(scene.fetchedBytes(), 0);
});

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: a stub whose mark was taken off, or replaced by another tree’s, is read like others`, async () => {
    await using scene = await nativeScene(type);
    const names = ['stripped', 'replaced'];
    for (const [seed, name] of names.entries()) scene.add(name, 2 * MiB, { seed });
    const inHex = 'od -An -v -tx1 | tr -d " \\n"';
    const mark = await scene.shellOk(`getfattr -n trusted.ebb --only-values replaced | ${inHex}`);
    // Behind magic and versions is the tree's id.
    const another = `${mark.slice(0, 16)}${'ab'.repeat(16)}${mark.slice(48)}`;
    await scene.shellOk(
      `setfattr -x trusted.ebb stripped; setfattr -n trusted.ebb -v 0x${another} replaced`,
    );
    for (const [seed, name] of names.entries()) {
      const { code, stdout, stderr } = await scene.shell(`cat ${name}`);
      assert.equal(code, 0, `${name}: ${stderr.toString()}`);
      assert.ok(stdout.equals(patternBytes(seed, 2 * MiB)), name);
    }
    const marks = await scene.shellOk('getfattr -n trusted.ebb -e hex *');
    assert.equal(marks.split('trusted.ebb=0x').length, 1 + names.length, 'they have marks again');
    assert.ok(!marks.includes('ab'.repeat(16)));
    assert.deepEqual(scene.problems, []);
  });
}

test('a stub without a record is not read as data, whatever its mark says; a copied mark is none', async () => {
  await using scene = await nativeScene('ext4');
  const { store, catalog } = scene;
  const forgotten = scene.add('forgotten', 3 * MiB);
  const damaged = scene.add('damaged', 3 * MiB);
  // Its name is too long for a mark.
  const key = `${'d'.repeat(250)}/`.repeat(13);
  const times = { seconds: 1, nanoseconds: 0 };
  const owner = { uid: undefined, gid: undefined, xattrs: undefined };
  const id = catalog.reserveIds(1);
  const stub = { id, key, version: 'v', sizeBytes: 3 * MiB, mtime: times, mode: 0o644, ...owner };
  store.create(store.stagingFd, Buffer.from('staged'), stub);
  renameEntry(store.stagingFd, 'staged', store.rootFd, 'long', 'keep');
  const get = 'getfattr -n trusted.ebb --only-values damaged | od -An -v -tx1 | tr -d " \\n"';
  const mark = await scene.shellOk(get);
  const other = mark.endsWith('0') ? '1' : '0';
  const set = `setfattr -n trusted.ebb -v 0x${mark.slice(0, -1)}${other} damaged`;
  await scene.shellOk(`${set}; echo mine > own; setfattr -n trusted.ebb -v 0x${mark} own`);
  await store.forget([forgotten.id, damaged.id]);
  for (const name of ['forgotten', 'damaged', 'long']) {
    assert.equal((await scene.shellOk(`${readSome} ${name}`)).trim(), 'EIO', name);
  }
  assert.equal(await scene.shellOk('cat own'), 'mine\n');
});

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function pendingQuestions(scene: NativeScene, count: number): Promise<void> {
  await waitFor(() => scene.server.counters().pending === count, { what: `${count} questions` });
}
