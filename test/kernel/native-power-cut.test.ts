/**
 * A power cut at any moment, as far as it can be had without cutting power: supervisor and daemon are killed under
 * readers and somebody who brings files and releases them all the time, and what is on the disks of tree and catalog
 * at that moment is looked at as it would be after a boot. What had not been written is lost, of both. No record and no
 * mark claims a chunk whose bytes are not there: not one that was still on its way (I2), nor one whose blocks were
 * being freed (I6).
 */
import type { StubFacts } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import { mkdirSync, openSync, readFileSync, readSync, readdirSync, closeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, test } from 'node:test';
import { readSecret } from '../../src/attach/tree-layout.ts';
import { ControlClient } from '../../src/cli/client.ts';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import { decodeHandle, openByHandle } from '../../src/sys/handle.ts';
import { Residency } from '../../src/tree/residency.ts';
import { inspectMarked } from '../../src/tree/stubs/marked-facts.ts';
import { compileHelper } from '../probes/probe.ts';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter, chunkBytes, mebibyte, noise } from '../support/corpus.ts';
import { untilDurable } from '../support/durable.ts';
import { startStress } from '../support/hammer.ts';
import { loopMount } from '../support/loop-mount.ts';
import { killTogether, processLives } from '../support/processes.ts';
import { bringAndReleaseAgainAndAgain } from '../support/releases.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type {
  LoopFilesystem,
  LoopFilesystemType,
  TemporaryDirectory,
} from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const rounds = Number(process.env['EBB_POWER_CUT_ROUNDS'] ?? 3);
const seed = Number(process.env['EBB_SEED'] ?? 1);
const readers = 6;
/** After the first file was released. */
const cutAfterMinMs = 0;
const cutAfterMaxMs = 2_000;
const stateDiskBytes = 64 * mebibyte;
const readNames = Array.from({ length: 16 }, (_unused, index) => `d${index % 2}/file-${index}.bin`);
/** Brought and released all the time; nobody else has them open. */
const churned = 'churned';
const churnedNames = Array.from({ length: 48 }, (_unused, index) => `${churned}/${index}.bin`);
const names = [...readNames, ...churnedNames];

let directory: TemporaryDirectory;
let source: string;
let helper: string;
/** Images are cloned here: all of an image at one moment, in no time. */
let outer: LoopFilesystem;

before(async () => {
  directory = await temporaryDirectory('power-cut');
  source = path.join(directory.path, 'source');
  const writer = new CorpusWriter(source);
  for (const [index, name] of readNames.entries()) {
    writer.bytes(name, Math.floor(((index + 1) * 7 * mebibyte) / 4) + 11 * index);
  }
  for (const [index, name] of churnedNames.entries()) writer.bytes(name, 900 * (index + 1) + index);
  helper = await compileHelper(directory.path, 'hammer');
  outer = await loopFilesystem({ type: 'xfs', sizeBytes: 16 * 1024 ** 3 });
});

after(async () => {
  await outer[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

interface Crashed {
  /** Of the tree's file system, and of that of its catalog. */
  readonly images: { readonly tree: string; readonly state: string };
  /** Files that were released before. */
  readonly released: number;
}

/** Attaches, reads, releases, kills everything, and keeps what is on the disks. The tree is gone when this returns. */
async function crash(type: LoopFilesystemType, round: number, afterMs: number): Promise<Crashed> {
  const kept = path.join(outer.path, `${type}-${round}`);
  mkdirSync(kept);
  const images = { tree: path.join(kept, 'tree'), state: path.join(kept, 'state') };
  const temporaryBefore = process.env['TMPDIR'];
  process.env['TMPDIR'] = outer.path;
  try {
    await using disk = await loopFilesystem({ type: 'ext4', sizeBytes: stateDiskBytes });
    const stateDirectory = path.join(disk.path, 'state');
    mkdirSync(stateDirectory);
    await using tree = await AttachedTree.attach({
      type,
      remote: source,
      sizeBytes: 2 * 1024 ** 3,
      stateDirectory,
    });
    const status = await tree.status();
    const { pid, supervisorPid } = status;
    const place = { helper, mount: tree.path, source, names: readNames };
    await using _stress = startStress({ ...place, readers, seconds: 600, seed: seed + round });
    const client = new ControlClient(tree.runRecord());
    const first = Promise.withResolvers<void>();
    const releasing = bringAndReleaseAgainAndAgain(client, churned, first.resolve);
    await first.promise;
    await sleep(afterMs);
    // The others are cut whenever it comes, with whatever is here.
    if (round === 0) await untilDurable({ cacheDirectory: status.stateDirectory }, chunkBytes);
    killTogether([tree.keeperPid, supervisorPid, pid]);
    await waitFor(() => !processLives(pid) && !processLives(supervisorPid), { what: 'the end' });
    await runOk('cp', ['--reflink=always', tree.filesystem.imagePath, images.tree]);
    await runOk('cp', ['--reflink=always', disk.imagePath, images.state]);
    return { images, released: await releasing };
  } finally {
    if (temporaryBefore === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = temporaryBefore;
  }
}

/** Mounts what was kept, and compares every claim with the source. Gives the bytes that were claimed. */
async function check({ images }: Crashed, type: LoopFilesystemType, said: string): Promise<number> {
  const mountOptions = type === 'xfs' ? 'nouuid' : 'defaults';
  await using mounted = await loopMount(images.tree, { type, mountOptions });
  await using disk = await loopMount(images.state, { type: 'ext4' });
  const stateDirectory = path.join(disk.path, 'state');
  const state = path.join(stateDirectory, readdirSync(stateDirectory)[0] ?? '');
  const root = openSync(mounted.path, 'r');
  try {
    return checkClaims(root, state, { type, said, tree: path.join(mounted.path, 'tree') });
  } finally {
    closeSync(root);
  }
}

function checkClaims(
  rootFd: number,
  state: string,
  { type, said, tree }: { type: LoopFilesystemType; said: string; tree: string },
): number {
  using catalog = openSqliteStubCatalog(path.join(state, 'catalog.sqlite'));
  const { treeId } = JSON.parse(readFileSync(path.join(tree, '.ebb', 'tree.json'), 'utf8')) as {
    treeId: string;
  };
  const seal = { treeId, secret: readSecret(state) };
  let claimed = 0;
  const records = catalog.page(0, 1_000);
  assert.equal(records.length, names.length, said);
  for (const record of records) {
    using file = openByHandle(rootFd, decodeHandle(record.handle), 0);
    claimed += compareClaims(file.fd, record, said);
    const marked = inspectMarked(file.fd, seal, type !== 'ext4');
    assert.ok(marked !== undefined && 'facts' in marked, `${said}: ${record.key} has its mark`);
    compareClaims(file.fd, marked.facts, `${said}, by the mark`);
  }
  return claimed;
}

function compareClaims(fd: number, facts: StubFacts, said: string): number {
  const residency = Residency.decode(facts.bitmap, facts.sizeBytes, facts.chunkBytes);
  const expected = readFileSync(path.join(source, facts.key));
  for (const runOfChunks of residency.runs()) {
    const { offsetBytes, lengthBytes } = residency.bytesOf(runOfChunks);
    const bytes = Buffer.alloc(lengthBytes);
    assert.equal(readSync(fd, bytes, 0, lengthBytes, offsetBytes), lengthBytes, said);
    const wanted = expected.subarray(offsetBytes, offsetBytes + lengthBytes);
    const where = `${said}: ${facts.key}, ${lengthBytes} bytes at ${offsetBytes} are claimed`;
    assert.ok(bytes.equals(wanted), where);
  }
  return residency.residentBytes;
}

for (const type of treeFilesystems) {
  describe(`a tree on ${type}`, { timeout: 300_000 + rounds * 60_000 }, () => {
    test(`cut ${rounds} times: nothing is claimed that is not on the disk`, async (context) => {
      const random = noise(`power cut ${seed} ${type}`, rounds * 4);
      let [claimed, released] = [0, 0];
      for (let round = 0; round < rounds; round += 1) {
        const spread = cutAfterMaxMs - cutAfterMinMs;
        const afterMs = cutAfterMinMs + (random.readUInt32LE(round * 4) % spread);
        const said = `${type}, round ${round} (seed ${seed}), cut after ${afterMs} ms`;
        const crashed = await crash(type, round, afterMs);
        claimed += await check(crashed, type, said);
        released += crashed.released;
      }
      const claimedMib = (claimed / mebibyte).toFixed(0);
      context.diagnostic(
        `${type}: ${claimedMib} MiB were claimed, and there; ${released} files were released`,
      );
      assert.ok(claimed > 0, 'nothing was ever durable: nothing was tested');
      assert.ok(released > 0, 'nothing was ever released: nothing was tested');
    });
  });
}
