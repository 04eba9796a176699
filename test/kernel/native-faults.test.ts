/**
 * An origin that lies, fails or stalls under a tree, by the table of faults.test.ts (which has a mount over it): a
 * reader gets the right bytes or an errno, never a wrong byte, and when the fault is over all is right again.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { compareFiles } from '../support/compare.ts';
import { CorpusWriter, chunkBytes } from '../support/corpus.ts';
import { ServingHammer } from '../support/hammer.ts';
import { startLyingOriginProcess } from '../support/lying-origin.ts';
import type { LyingOrigin } from '../support/lying-origin.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';
import { faultCases } from './fault-table.ts';
import type { FaultCase } from './fault-table.ts';

/** All faults take two minutes. */
const wantsAll = process.env['EBB_FAULTS'] === 'all';
const usual = new Set(
  (
    'range-ignored range-shifted cut-once cut-always body-short body-html-for-a-range garbage status-404 ' +
    'status-503-once status-500 etag-changes-always'
  ).split(' '),
);
const cases = faultCases.filter(({ name }) => wantsAll || usual.has(name));
const sizeBytes = 5 * chunkBytes + 123;
const answerMaxMs = 60_000;
/** Where it has passed an error is right, also where the fault was over: a machine may be so slow. */
const deadlineMs = 5_000;
const options = [
  '--deadline',
  `${deadlineMs}ms`,
  '--retries',
  '2',
  '--whole-max',
  '64K',
  '--read-ahead',
  '0',
];

let directory: TemporaryDirectory;
let source: string;
let helper: string;
let origin: LyingOrigin;

before(async () => {
  directory = await temporaryDirectory('native-faults');
  source = path.join(directory.path, 'source');
  helper = await compileHelper(directory.path, 'hammer');
  const writer = new CorpusWriter(source);
  for (const { name } of cases) {
    for (const file of ['first.bin', 'second.bin']) writer.bytes(`${name}/${file}`, sizeBytes);
  }
  origin = await startLyingOriginProcess({ root: source });
});

after(async () => {
  await origin?.[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

async function survive(
  tree: AttachedTree,
  { name, fault, also = [], times, outcome }: FaultCase,
): Promise<void> {
  const files = ['first.bin', 'second.bin'].map((file) => `${name}/${file}`);
  const rules: number[] = [];
  for (const file of files) {
    for (const one of [fault, ...also]) {
      const limit = times === undefined ? {} : { times };
      rules.push(await origin.addRule({ fault: one, match: { path: `/${file}` }, ...limit }));
    }
  }
  try {
    using hammer = new ServingHammer(helper);
    const places = [tree.path, source].map((place) => path.join(place, files[0] ?? ''));
    assert.equal(await hammer.ask(`open 0 ${places.join(' ')}`), 'ok 0');
    for (const question of [
      'pread 0 0 4096',
      `pread 0 ${sizeBytes - 100} 200`,
      'mmap 0 600000 5000',
    ]) {
      const askedAtMs = performance.now();
      const answer = await hammer.ask(question, answerMaxMs);
      const isInTime = performance.now() - askedAtMs < deadlineMs;
      assert.match(answer, /^(ok|errno (1|5)$)/, question);
      const isRanged = question.startsWith('pread');
      if (outcome === 'error' && isRanged) assert.match(answer, /^errno/, `${question}: whence?`);
      if (outcome === 'bytes' && times !== undefined && isInTime)
        assert.match(answer, /^ok/, question);
    }
  } finally {
    for (const id of rules) await origin.removeRule(id);
  }
  const areRight = async (): Promise<boolean> => {
    const compared = await compareFiles(tree.path, source, files);
    for (const { wrong, name: file } of compared) assert.equal(wrong, -1, `${file} afterwards`);
    return compared.every(({ errno }) => errno === 0);
  };
  await waitFor(areRight, { what: 'both to be right again', timeoutMs: 30_000, intervalMs: 250 });
}

describe('a tree', { concurrency: treeFilesystems.length, timeout: 900_000 }, () => {
  for (const type of treeFilesystems) {
    describe(`on ${type}`, { concurrency: 4 }, () => {
      let tree: AttachedTree;
      before(async () => {
        tree = await AttachedTree.attach({ type, remote: origin.url, options });
      });
      after(async () => {
        await tree[Symbol.asyncDispose]();
      });
      for (const fault of cases)
        test(`${fault.name}: ${fault.outcome}`, () => survive(tree, fault));
    });
  }
});
