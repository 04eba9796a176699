/**
 * Readers, writers and somebody who releases all the time, on one tree: never a wrong byte (I6). The control does the
 * same without leases, by punching holes behind Ebb's back: the readers do see wrong bytes then, so they would here.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter, mebibyte, noise } from '../support/corpus.ts';
import { startStress } from '../support/hammer.ts';
import type { HammerReport } from '../support/hammer.ts';
import { releasedFiles } from '../support/releases.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Per file system; the acceptance run takes 300. */
const seconds = Number(process.env['EBB_STRESS_SECONDS'] ?? 8);
const seed = Number(process.env['EBB_SEED'] ?? 1);
/** What can fail on one can fail on all: the others when there is time. */
const controlTypes =
  process.env['EBB_STRESS_SECONDS'] === undefined ? (['ext4'] as const) : treeFilesystems;
const readers = 8;
/** Of the control; readers notice within the first few. */
const roundsMax = 100;
const writers = 2;
const readNames = Array.from({ length: 24 }, (_unused, index) => `read/d${index % 3}/${index}.bin`);
const namesOfWriter = (writer: number): string[] =>
  Array.from({ length: 6 }, (_unused, index) => `written/w${writer}/${index}.bin`);

function writeSource(root: string): void {
  const corpus = new CorpusWriter(root);
  const sizes = noise(`stress sizes ${seed}`, readNames.length * 4);
  for (const [index, name] of readNames.entries()) {
    const magnitude = 2 ** (9 + (index % 14));
    corpus.bytes(name, magnitude + (sizes.readUInt32LE(index * 4) % magnitude));
  }
  for (let writer = 0; writer < writers; writer += 1) {
    for (const [index, name] of namesOfWriter(writer).entries()) {
      corpus.bytes(name, Math.floor(((index + 1) * mebibyte) / 3) + 77 * index);
    }
  }
}

const writerScript = path.join(import.meta.dirname, '../probes/writer.py');

/** Resolves to what it said when it ends by itself, which it does only when bytes are wrong. */
function startWriter(writer: number, tree: string, model: string): { ended: Promise<string> } {
  const names = namesOfWriter(writer);
  const child = spawn(
    'python3',
    [writerScript, `${seed * 10 + writer}`, `${seconds}`, tree, model, ...names],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => (said += bytes.toString()));
  }
  const ended = once(child, 'close').then(([code]) => `${String(code)} ${said.slice(-2_000)}`);
  return { ended };
}

function assertRight(reports: readonly HammerReport[]): void {
  for (const report of reports) {
    assert.equal(report.wrong, undefined);
    assert.deepEqual(report.errors, {});
    assert.ok(report.reads > 0, 'a reader that never read proves nothing');
  }
}

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, () => {
    test(`${readers} readers, ${writers} writers, releases: ${seconds} s, no wrong byte`, async (context) => {
      await using directory = await temporaryDirectory('native-stress');
      const source = path.join(directory.path, 'source');
      writeSource(source);
      const model = path.join(directory.path, 'model');
      await runOk('cp', ['-a', source, model]);
      const helper = await compileHelper(directory.path, 'hammer');
      await using tree = await AttachedTree.attach({ type, remote: source });
      const place = { helper, mount: tree.path, source, names: readNames };
      await using stress = startStress({ ...place, readers, seconds: seconds + 60, seed });
      const writing = Array.from({ length: writers }, (_unused, writer) =>
        startWriter(writer, tree.path, model),
      );
      let released = 0;
      const untilMs = performance.now() + seconds * 1_000;
      // On a slow machine until it has seen something, or the readers are over.
      while (performance.now() < untilMs || (released === 0 && !stress.hasEnded)) {
        const result = await tree.ebb(['release', '--json', tree.path]);
        assert.ok([0, 1, 3].includes(result.code ?? -1), result.stderr.toString());
        released += releasedFiles(result.stdout.toString());
      }
      for (const { ended } of writing) assert.match(await ended, /^0 ok/);
      assertRight(await stress.stop());
      assert.ok(released > 0, 'nothing was ever released: the test saw nothing');
      context.diagnostic(`${type}: ${released} files released under way`);
      await tree.ebb(['release', tree.path]);
      const all = 'cd "$0" && find . -type f -exec cmp -s {} "$MODEL"/{} \\; -o -type f -print';
      const compared = await run('/bin/sh', ['-c', all, tree.path], {
        timeoutMs: 60_000,
        env: { MODEL: model },
      });
      assert.equal(compared.stdout.toString(), '');
    });
  });
}

/**
 * The daemon's own way to the tree's `.ebb`, past which no event is raised: who frees blocks there frees them behind
 * Ebb's back, as a release without leases would.
 */
function privateWay(daemonPid: number): string {
  const descriptors = `/proc/${daemonPid}/fd`;
  const fd = readdirSync(descriptors).find((name) =>
    existsSync(path.join(descriptors, name, 'tree.json')),
  );
  assert.ok(fd, 'the daemon has its private mount');
  return path.join(descriptors, fd);
}

for (const type of controlTypes) {
  test(`the control on ${type}: holes punched without a lease are seen as wrong bytes`, async () => {
    await using directory = await temporaryDirectory('native-stress-control');
    const source = path.join(directory.path, 'source');
    writeSource(source);
    const helper = await compileHelper(directory.path, 'hammer');
    await using tree = await AttachedTree.attach({ type, remote: source });
    const place = { helper, mount: tree.path, source, names: readNames };
    await using stress = startStress({ ...place, readers, seconds: 120, seed });
    const data = path.join(privateWay((await tree.status()).pid), 'data');
    const punch = 'for f in "$0"/read/*/*; do fallocate -p -o 0 -l "$(stat -c %s "$f")" "$f"; done';
    for (let round = 0; round < roundsMax && !stress.hasEnded; round += 1) {
      await sleep(100);
      await run('/bin/sh', ['-c', punch, data], { timeoutMs: 30_000 });
    }
    const reports = await stress.stop();
    assert.ok(
      reports.some((report) => report.wrong !== undefined),
      'readers did not notice',
    );
  });
}
