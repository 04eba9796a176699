/** The rehearsal of a tree: played by real events, gone without a trace, and no more than a help. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { openSqliteStubCatalog } from '../../src/catalog/stubs-sqlite/catalog.ts';
import { Logbook } from '../../src/daemon/logbook.ts';
import { TreeRehearsal } from '../../src/daemon/native/rehearsal.ts';
import { consumedStepBytes } from '../../src/native/consumption.ts';
import type { ToMain } from '../../src/native/messages.ts';
import { defaultNativePolicy } from '../../src/native/policy.ts';
import { sharedWordsBytes } from '../../src/native/shared-words.ts';
import { NativeThread } from '../../src/native/thread.ts';
import { Guard } from '../../src/supervisor/guard.ts';
import { openFd, OpenFlag } from '../../src/sys/fd.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { AttachedTree } from '../support/attached-tree.ts';
import { nginxLog, startNginx } from '../support/servers.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { LoopFilesystemType } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const seal = { treeId: '01234567-89ab-4cde-8f01-23456789abcd', secret: new Uint8Array(32).fill(7) };
const parts = ['data', 'new', 'poison'];
const sizeBytes = 2 * 1024 ** 3;

interface Played {
  /** What the logbook heard. */
  readonly lines: readonly string[];
  /** Messages of the thread that were the rehearsal's, and the others. */
  readonly taken: readonly ToMain[];
  readonly others: readonly ToMain[];
}

async function played(
  type: LoopFilesystemType,
  remoteKind: string,
  durationMaxMs: number,
): Promise<Played> {
  await using filesystem = await loopFilesystem({ type, sizeBytes });
  await using temporary = await temporaryDirectory('tree-rehearsal');
  const directory = path.join(temporary.path, 'scratch');
  const ebb = path.join(filesystem.path, '.ebb');
  mkdirSync(ebb, { mode: 0o700 });
  for (const name of parts) mkdirSync(path.join(ebb, name));
  using guard = Guard.set(ebb);
  using privateRoot = openFd('.', OpenFlag.rdonly | OpenFlag.directory, 0, guard.privateMount.fd);
  const lines: string[] = [];
  const taken: ToMain[] = [];
  const others: ToMain[] = [];
  using journal = createMemoryFile('changes');
  const groups = {
    access: guard.access.fd,
    open: guard.open.fd,
    changes: guard.changes.fd,
    changeJournal: journal.fd,
  };
  const pending = new SharedArrayBuffer(sharedWordsBytes);
  const rehearsal = new TreeRehearsal({
    remoteKind,
    privateFd: privateRoot.fd,
    ebbDirectory: ebb,
    groups,
    seal,
    pending,
    post: (message) => thread.post(message),
    directory,
    logbook: new Logbook(systemClock, 'debug', (line) => void lines.push(line)),
    durationMaxMs,
  });
  const catalogPath = path.join(temporary.path, 'catalog.sqlite');
  using _catalog = openSqliteStubCatalog(catalogPath);
  const thread = await NativeThread.start({
    groups,
    treeId: seal.treeId,
    catalogPath,
    pending,
    consumedStepBytes: consumedStepBytes(0),
    policy: defaultNativePolicy,
    hasPoison: type !== 'ext4',
    onMessage: (message) => (rehearsal.takes(message) ? taken : others).push(message),
  });
  try {
    await rehearsal.play();
    assert.equal(existsSync(directory), false);
    // Nor the file of kept times, which is the tree's own store's.
    assert.deepEqual(readdirSync(ebb).sort(), parts);
    assert.deepEqual(readdirSync(path.join(ebb, 'new')), []);
    // The thread serves on, and nobody waits for an answer.
    thread.post({ kind: 'sync', id: 7 });
    await waitFor(() => others.some(({ kind }) => kind === 'synced'), { what: 'its answer' });
    await waitFor(() => new Int32Array(pending)[0] === 0, { what: 'all questions answered' });
  } finally {
    await thread.stop();
  }
  return { lines, taken, others };
}

for (const [type, remoteKind] of [
  ['xfs', 'dir'],
  ['ext4', 'http'],
  ['btrfs', 'dir'],
] as const) {
  test(`${type}, ${remoteKind}: a rehearsal is played by events of its own, and leaves nothing`, async () => {
    const { lines, taken, others } = await played(type, remoteKind, 60_000);
    assert.deepEqual(lines, []);
    const questions = taken.filter((message) => message.kind === 'question');
    const of = (group: string): number => questions.filter((each) => each.group === group).length;
    // Two of each file, and more where the next page is read before the rest of its chunk has come.
    assert.ok(of('access') >= 8 && of('access') <= 8 + 4 * 3);
    // The second open of each needs nobody, unless it is looked at before its thread sleeps.
    assert.ok(of('open') >= 4 && of('open') <= 8);
    assert.equal(taken.filter(({ kind }) => kind === 'opening').length, 4);
    // These are of no file.
    const anybodys = new Set(['awake', 'changesTold']);
    const kinds = others.map(({ kind }) => kind);
    assert.deepEqual(
      kinds.filter((kind) => !anybodys.has(kind)),
      ['synced'],
    );
  });
}

test('a rehearsal that takes too long is given up: nobody waits, nothing is left', async () => {
  for (const durationMaxMs of [0, 10]) {
    const { lines, others } = await played('xfs', 'dir', durationMaxMs);
    assert.ok(lines.every((line) => line.includes(' debug rehearsal, ')));
    assert.deepEqual(
      others.filter(({ kind }) => kind === 'problem'),
      [],
    );
  }
});

test('attaching asks the remote for names and for nothing else; the rehearsal is in no record', async () => {
  await using temporary = await temporaryDirectory('tree-rehearsal-origin');
  writeFileSync(path.join(temporary.path, 'file'), 'content');
  const nginx = await startNginx({ root: temporary.path, workers: 1 });
  try {
    await using tree = await AttachedTree.attach({
      type: 'xfs',
      remote: nginx.url,
      options: ['--log-level', 'debug'],
    });
    const log = await nginxLog(nginx);
    const requests = [...log.matchAll(/"(\w+ \S+) HTTP/g)].map((match) => match[1]);
    assert.deepEqual([...new Set(requests)].sort(), ['GET /', 'HEAD /file']);
    const found = await tree.ebbOk(['find', tree.path, '--type', 'f']);
    assert.equal(found.stdout.toString().trim(), path.join(tree.path, 'file'));
    // A busy machine has no time for it.
    assert.doesNotMatch(await tree.logTail(), /rehearsal, (?!playing: too slow)/);
  } finally {
    await nginx.stop();
  }
});
