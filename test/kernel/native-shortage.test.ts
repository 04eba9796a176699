/**
 * A tree whose daemon is short of something: room, descriptors, a file system that takes writes, places in a queue.
 * Readers get an errno or wait, never a byte that is not the source's, and all goes on when it is there again.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm, statfs } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { before, after, describe, test } from 'node:test';
import { endedWithin } from '../../src/base/deadline.ts';
import { readMountInfo } from '../../src/base/mount-info.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import type { Compared } from '../support/compare.ts';
import { CorpusWriter, mebibyte } from '../support/corpus.ts';
import { processLives } from '../support/processes.ts';
import { killAtExit, killGroup, run, runOk, said } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const EIO = 5;
const EAGAIN = 11;
const ENOSPC = 28;
const EDQUOT = 122;
const EPERM = 1;
const large = 'large.bin';
const largeBytes = 48 * mebibyte;
const other = 'other.bin';
const otherBytes = 40 * mebibyte;
const names = Array.from({ length: 40 }, (_unused, index) => `d${index % 4}/${index}.bin`);

let directory: TemporaryDirectory;
let source: string;

before(async () => {
  directory = await temporaryDirectory('native-shortage');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  writer.bytes(large, largeBytes);
  writer.bytes(other, otherBytes);
  for (const [index, name] of names.entries()) writer.bytes(name, 100_000 + 7_000 * index);
});

after(async () => {
  await directory[Symbol.asyncDispose]();
});

/**
 * Takes a process out of the limit on processes that it was started under (pids of the control groups): with the
 * kernel's own limits there is room for more than its queues have places for. It goes last at the processors: each
 * answer wakes all who wait, who have nothing to do but to wait on.
 */
function makeRoomFor(pid: number): void {
  const groups = readMountInfo().filter(
    ({ fileSystemType, superOptions }) =>
      fileSystemType === 'cgroup2' || superOptions.split(',').includes('pids'),
  );
  for (const { mountPoint } of groups) {
    writeFileSync(path.join(mountPoint, 'cgroup.procs'), String(pid));
  }
  os.setPriority(pid, lowestPriority);
  const session = `/proc/${pid}/autogroup`;
  if (existsSync(session)) writeFileSync(session, String(lowestPriority));
}

/** The kernel's queues have 16,384 places unless somebody asks for more, and so many may wait for the daemon. */
const crowdDefault = 500;
const lowestPriority = 19;
const crowd = Number(process.env['EBB_CROWD'] ?? crowdDefault);
/** More than fits there takes all of a small machine. */
const crowdTypes = process.env['EBB_CROWD'] === undefined ? (['ext4'] as const) : treeFilesystems;

/** Its supervisor replaces a daemon that does nothing for a minute, and a starved machine takes as long to ask. */
const heldMaxMs = 30_000;

/** What Ebb leaves free, and as much as it may use. */
const reservedBytes = 16 * mebibyte;
const leftBytes = reservedBytes + 8 * mebibyte;
const minFreeBytes = 24 * mebibyte;

async function freeBytes(filesystem: string): Promise<number> {
  const { bavail, bsize } = await statfs(filesystem);
  return bavail * bsize;
}

async function fill(filesystem: string, file: string, free = leftBytes): Promise<void> {
  await runOk('fallocate', ['-l', String((await freeBytes(filesystem)) - free), file]);
}

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, { timeout: 900_000 }, () => {
    test('a full file system is ENOSPC, what is here is read on, and there is more when there is room', async () => {
      await using tree = await AttachedTree.attach({
        type,
        remote: source,
        sizeBytes: 512 * mebibyte,
      });
      const filler = path.join(tree.filesystem.path, 'filler');
      await fill(tree.filesystem.path, filler);
      const [first] = await compareFiles(tree.path, source, [large]);
      assert.deepEqual(
        { errno: first?.errno, wrong: first?.wrong },
        { errno: ENOSPC, wrong: -1 },
        JSON.stringify(first),
      );
      // Less metadata, and what the last chunk would have needed.
      const expected = leftBytes - reservedBytes - 2 * mebibyte;
      assert.ok((first?.right ?? 0) > expected, `only ${first?.right} bytes came`);
      assert.match(await tree.logTail(), /are missing, and nothing can be released/);
      const [again] = await compareFiles(tree.path, source, [large]);
      assert.equal(again?.wrong, -1);
      const refused = await compareFiles(tree.path, source, names);
      const full = refused.filter(({ errno }) => errno === ENOSPC);
      assert.ok(full.length > names.length / 2, `${full.length} files found no room`);
      const log = (await tree.ebbOk(['log', '--lines', '1000', tree.path])).stdout.toString();
      const lines = log.match(/recall of .* failed/g) ?? [];
      assert.ok(lines.length > 0 && lines.length < full.length, log);
      await rm(filler);
      // btrfs gives blocks back with its next transaction.
      await runOk('sync', ['--file-system', tree.filesystem.path]);
      await waitFor(async () => (await freeBytes(tree.filesystem.path)) > 2 * largeBytes, {
        what: 'the room to be free again',
      });
      const all = await compareFiles(tree.path, source, [large, ...names]);
      assert.deepEqual(
        all.filter(({ errno, wrong }) => errno !== 0 || wrong !== -1),
        [],
        await tree.logTail(),
      );
    });

    test('with --min-free who uses a full tree has what others held, and so much stays free', async () => {
      await using tree = await AttachedTree.attach({
        type,
        remote: source,
        sizeBytes: 512 * mebibyte,
        options: ['--min-free', String(minFreeBytes)],
      });
      const { path: filesystem } = tree.filesystem;
      assertRight(await compareFiles(tree.path, source, [large]));
      await runOk('sync', ['--file-system', filesystem]);
      await fill(filesystem, path.join(filesystem, 'filler'), minFreeBytes + 4 * mebibyte);
      const isKept = async (who: string): Promise<void> => {
        await runOk('sync', ['--file-system', filesystem]);
        const free = await freeBytes(filesystem);
        assert.ok(free > minFreeBytes - 2 * mebibyte, `${free} bytes are free after ${who}`);
      };
      // One, several, and one who needs all of a file before he may write.
      assertRight(await compareFiles(tree.path, source, [other]));
      await isKept('a reader');
      assertRight(await compareFiles(tree.path, source, [...names, large], { readers: 8 }));
      await isKept('readers');
      const writing =
        'import sys; f = open(sys.argv[1], "r+b"); f.seek(1); f.write(b"x"); f.close()';
      const { code, stderr } = await run('python3', ['-c', writing, path.join(tree.path, other)]);
      assert.equal(code, 0, `${stderr.toString()} ${await tree.logTail()}`);
      await isKept('a writer');
      const changed = readFileSync(path.join(source, other));
      changed.write('x', 1);
      assert.ok(changed.equals(readFileSync(path.join(tree.path, other))));
    });
  });
}

// The others' quotas are options of the kernel, which this one may not have; these always are in btrfs.
test('btrfs: a used-up quota is EDQUOT, what is here is read on, and more comes when it is raised', async () => {
  await using tree = await AttachedTree.attach({ type: 'btrfs', remote: source, subvolume: true });
  const { path: filesystem } = tree.filesystem;
  const here = names.slice(0, 10);
  assertRight(await compareFiles(tree.path, source, here));
  await runOk('sync', ['--file-system', filesystem]);
  await runOk('btrfs', ['quota', 'enable', filesystem]);
  await runOk('btrfs', ['quota', 'rescan', '-w', filesystem]);
  const subvolume = await said('btrfs', 'inspect-internal', 'rootid', tree.path);
  const limit = async (bytes: string): Promise<void> => {
    await runOk('btrfs', ['qgroup', 'limit', bytes, `0/${subvolume}`, filesystem]);
  };
  const groups = await said('btrfs', 'qgroup', 'show', '--raw', filesystem);
  const used = Number(new RegExp(`^0/${subvolume} +(\\d+)`, 'm').exec(groups)?.[1]);
  assert.ok(used > 0, groups);
  await limit(String(used + 8 * mebibyte));
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const [first] = await compareFiles(tree.path, source, [large]);
    assert.deepEqual(
      { errno: first?.errno, wrong: first?.wrong },
      { errno: EDQUOT, wrong: -1 },
      `${JSON.stringify(first)} ${await tree.logTail()}`,
    );
  }
  assertRight(await compareFiles(tree.path, source, here));
  await limit('none');
  assertRight(await compareFiles(tree.path, source, [large, ...names]));
});

function assertRight(compared: readonly Compared[]): void {
  const bad = compared.filter(({ errno, wrong }) => errno !== 0 || wrong !== -1);
  assert.deepEqual(bad, []);
}

describe(
  'short of descriptors, or frozen',
  { concurrency: treeFilesystems.length, timeout: 900_000 },
  () => {
    for (const type of treeFilesystems) {
      test(`${type}: a daemon without free descriptors: an errno or right bytes, and all goes on`, async () => {
        await using tree = await AttachedTree.attach({ type, remote: source });
        const { pid } = await tree.status();
        const limit = async (descriptors: number): Promise<void> => {
          await runOk('prlimit', ['--pid', String(pid), `--nofile=${descriptors}:20000`]);
        };
        const open = readdirSync(`/proc/${pid}/fd`).length;
        const seen = new Set<number>();
        for (const free of [0, 4]) {
          await limit(open + free);
          for (const { name, errno, wrong } of await compareFiles(tree.path, source, names)) {
            assert.equal(wrong, -1, `${name} with ${free} free descriptors`);
            seen.add(errno);
          }
        }
        await limit(20_000);
        const all = await compareFiles(tree.path, source, names);
        assert.deepEqual(
          all.filter(({ errno, wrong }) => errno !== 0 || wrong !== -1),
          [],
          await tree.logTail(),
        );
        assert.equal((await tree.status()).pid, pid, 'the daemon lived on');

        // Not even one for an event: the kernel denies those itself. Who dies of it is replaced.
        const cold = [large, other];
        await limit(3);
        const met = await compareFiles(tree.path, source, cold);
        assert.ok(
          met.every(({ wrong }) => wrong === -1),
          JSON.stringify(met),
        );
        for (const { errno } of met) seen.add(errno);
        assert.ok(!processLives(pid) || seen.size > 1, 'nobody met a limit: nothing was tested');
        await limit(20_000).catch((error: unknown) => {
          if (processLives(pid)) throw error;
        });
        const isRight = async (): Promise<boolean> => {
          const compared = await compareFiles(tree.path, source, cold);
          assert.ok(compared.every(({ wrong }) => wrong === -1));
          return compared.every(({ errno }) => errno === 0);
        };
        for (const errno of seen) assert.ok([0, EPERM, EIO, EAGAIN].includes(errno), `${errno}`);
        await waitFor(isRight, { what: 'both to be right', timeoutMs: 30_000, intervalMs: 250 });
      });

      test(`${type}: a frozen file system: what is not here comes when it is thawed`, async () => {
        await using tree = await AttachedTree.attach({ type, remote: source });
        const { pid } = await tree.status();
        let reading: Promise<readonly Compared[]>;
        await runOk('fsfreeze', ['--freeze', tree.filesystem.path]);
        try {
          reading = compareFiles(tree.path, source, [large, ...names]);
          // Whatever comes has to be written.
          const isStuck = (): boolean =>
            readdirSync(`/proc/${pid}/task`).some((tid) =>
              readFileSync(`/proc/${pid}/task/${tid}/wchan`, 'utf8').includes('rwsem'),
            );
          await waitFor(isStuck, { what: 'the daemon to wait for the file system' });
        } finally {
          await runOk('fsfreeze', ['--unfreeze', tree.filesystem.path]);
        }
        for (const { name, errno, wrong } of await reading) {
          assert.equal(wrong, -1, name);
          // It cannot do anything meanwhile: after a minute it is replaced.
          assert.ok([0, EIO].includes(errno), `${name}: ${errno}`);
        }
        assertRight(await compareFiles(tree.path, source, [large, ...names]));
      });
    }
  },
);

for (const type of crowdTypes) {
  test(`${type}: ${crowd} readers of a daemon that does nothing yet: their bytes, or an errno`, async (context) => {
    // Answering N who wait wakes N of them N times: of 20,000 most would be told EIO after a minute.
    const options = crowd > crowdDefault ? ['--deadline', '1h'] : [];
    await using tree = await AttachedTree.attach({ type, remote: source, options });
    const helper = await compileHelper(directory.path, 'crowd');
    const { pid } = await tree.status();
    const words = [String(crowd), path.join(tree.path, large), path.join(source, large)];
    const child = spawn(helper, words, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    killAtExit(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const said = async (): Promise<string> => String((await lines.next()).value);
    let asked: Promise<string>;
    try {
      assert.equal(await said(), 'open');
      if (crowd > crowdDefault) makeRoomFor(child.pid ?? 0);
      process.kill(pid, 'SIGSTOP');
      child.stdin.write('\n');
      asked = said();
      await endedWithin(asked, heldMaxMs);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    try {
      assert.equal(await asked, 'asked');
      const report = await said();
      context.diagnostic(report);
      const { started, right, wrong, errors } = JSON.parse(report) as CrowdReport;
      // Not more than the machine has processes for.
      assert.ok(started >= Math.min(crowd, crowdDefault), report);
      assert.equal(wrong, 0);
      for (const errno of Object.keys(errors)) {
        assert.ok([EPERM, EIO, EAGAIN].includes(Number(errno)), errno);
      }
      assert.ok(right > started / 2, `${report} ${await tree.logTail()}`);
    } finally {
      killGroup(child);
    }
    assertRight(await compareFiles(tree.path, source, [large, ...names]));
    assert.equal((await tree.status()).pid, pid, 'the daemon lived on');
  });
}

interface CrowdReport {
  readonly started: number;
  readonly right: number;
  readonly wrong: number;
  readonly errors: Readonly<Record<string, number>>;
}
