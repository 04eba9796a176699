/**
 * A remote on a disk of its own, and what is found in its place: nothing, or another disk. Neither is taken for the
 * remote, which would look as if every file had been deleted there.
 */
import assert from 'node:assert/strict';
import { readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { withEbb } from '../support/mount.ts';
import { run, runOk } from '../support/run.ts';
import { detachMountsBelow, loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const answerMaxMs = 60_000;
const files = ['d/cold', 'd/here'] as const;
const fileBytes = 300_001;

/** Two disks with file systems of one type, of which one is the remote, at one place. */
class Disks implements AsyncDisposable {
  readonly #disks: AsyncDisposableStack;
  readonly #devices: Readonly<Record<'right' | 'other', string>>;
  /** Where the remote is. */
  readonly place: string;
  /** A copy of the right disk's files. */
  readonly source: string;

  private constructor(
    disks: AsyncDisposableStack,
    devices: Readonly<Record<'right' | 'other', string>>,
    places: { readonly place: string; readonly source: string },
  ) {
    this.#disks = disks;
    this.#devices = devices;
    this.place = places.place;
    this.source = places.source;
  }

  static async make(type: 'ext4' | 'xfs'): Promise<Disks> {
    await using disks = new AsyncDisposableStack();
    const right = disks.use(await loopFilesystem({ type }));
    const other = disks.use(await loopFilesystem({ type }));
    const { path: place } = disks.use(await temporaryDirectory('remote-root'));
    const source = disks.use(await temporaryDirectory('remote-root-source')).path;
    for (const root of [right.path, source]) {
      for (const name of files) new CorpusWriter(root).bytes(name, fileBytes);
    }
    new CorpusWriter(other.path).bytes('other', 5);
    for (const { path: where } of [right, other]) await runOk('umount', [where]);
    await runOk('mount', [right.device, place]);
    const devices = { right: right.device, other: other.device };
    return new Disks(disks.move(), devices, { place, source });
  }

  /** Whoever still uses the one that goes keeps it. Not by umount(8): the place is a source of mounts of ours, too. */
  async put(what: 'right' | 'other' | 'nothing'): Promise<void> {
    await detachMountsBelow(this.place);
    if (what !== 'nothing') await runOk('mount', [this.#devices[what], this.place]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await detachMountsBelow(this.place);
    await this.#disks.disposeAsync();
  }

  /** Whether a file of `root` can be read, and is right. In a process of its own: it may wait for ever. */
  async isRight(root: string, name: string): Promise<boolean> {
    const pair = [path.join(root, name), path.join(this.source, name)];
    return (await run('cmp', pair, { timeoutMs: answerMaxMs })).code === 0;
  }

  async untilRight(root: string, name: string): Promise<void> {
    const isRight = (): Promise<boolean> => this.isRight(root, name);
    await waitFor(isRight, { what: `${name} to be read`, timeoutMs: answerMaxMs });
  }
}

test('a mount whose daemon dies: neither an empty mount point nor another disk is its remote', async () => {
  await using disks = await Disks.make('ext4');
  await withEbb({ remote: disks.place, options: ['--ttl', '0'], standby: true }, async (mount) => {
    assert.ok(await disks.isRight(mount.path, 'd/here'));
    const replaced = await mount.ebb(['daemon', 'restart', mount.path], { timeoutMs: answerMaxMs });
    assert.equal(replaced.code, 0, replaced.stderr.toString());
    for (const what of ['nothing', 'other'] as const) {
      await mount.currentPid();
      await disks.put(what);
      await mount.kill();
      assert.deepEqual((await readdir(path.join(mount.path, 'd'))).sort(), files.map(baseName));
      assert.ok(await disks.isRight(mount.path, 'd/here'), what);
      assert.equal(await disks.isRight(mount.path, 'd/cold'), false, what);
    }
    await disks.put('right');
    await disks.untilRight(mount.path, 'd/cold');
  });
});

test('a tree: neither an empty mount point nor another disk is its remote, unless it is said to be', async () => {
  await using disks = await Disks.make('xfs');
  await using tree = await AttachedTree.attach({ type: 'xfs', remote: disks.place });
  const names = async (): Promise<string[]> => (await readdir(path.join(tree.path, 'd'))).sort();
  const assertKept = async (what: string): Promise<void> => {
    const refreshed = await tree.ebb(['refresh', tree.path], { timeoutMs: answerMaxMs });
    assert.equal(refreshed.code, 1, what);
    assert.match(refreshed.stderr.toString(), /another directory|root changed/, what);
    assert.deepEqual(await names(), files.map(baseName), what);
    assert.ok(await disks.isRight(tree.path, 'd/here'), what);
    assert.equal(await disks.isRight(tree.path, 'd/cold'), false, what);
  };
  assert.ok(await disks.isRight(tree.path, 'd/here'));
  await disks.put('nothing');
  await assertKept('nothing there, while it is served');
  await killDaemon(tree);
  await assertKept('nothing there, served by a successor');
  await disks.put('other');
  await assertKept('another disk there, meanwhile');
  await tree.stop();
  const attached = await tree.ebbOk(['attach', tree.path], { timeoutMs: answerMaxMs });
  await tree.status();
  assert.match(attached.stderr.toString(), /another directory.*ebb attach --remote-moved/);
  await assertKept('another disk there, attached again');
  await disks.put('right');
  assert.ok(await disks.isRight(tree.path, 'd/cold'));
  await tree.ebbOk(['refresh', tree.path], { timeoutMs: answerMaxMs });
  assert.deepEqual(await names(), files.map(baseName));

  await tree.stop();
  await disks.put('nothing');
  await rename(disks.place, `${disks.place}.away`);
  const refused = await tree.ebb(['attach', '--remote-moved', tree.path], {
    timeoutMs: answerMaxMs,
  });
  await rename(`${disks.place}.away`, disks.place);
  assert.equal(refused.code, 1, 'there is nothing to take');
  assert.match(refused.stderr.toString(), /cannot be opened as a remote/);
  await disks.put('other');
  await tree.ebbOk(['attach', '--remote-moved', tree.path], { timeoutMs: answerMaxMs });
  await tree.status();
  const refreshed = await tree.ebb(['refresh', tree.path], { timeoutMs: answerMaxMs });
  assert.match(refreshed.stderr.toString(), /the remote has it no longer; .* maybe the last copy/);
  assert.ok((await readdir(tree.path)).includes('other'));
  await killDaemon(tree);
  const bytes = await run('cat', [path.join(tree.path, 'other')], { timeoutMs: answerMaxMs });
  assert.equal(bytes.stdout.length, 5);
});

test('a tree of which no record says what its remote was: an empty mount point is not taken for it', async () => {
  await using disks = await Disks.make('ext4');
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: disks.place });
  const { stateDirectory } = await tree.status();
  await tree.stop();
  await rm(path.join(stateDirectory, 'remote-root'));
  await disks.put('nothing');
  const attached = await tree.ebbOk(['attach', tree.path], { timeoutMs: answerMaxMs });
  await tree.status();
  assert.match(attached.stderr.toString(), /empty, which it was not before.*--remote-moved/);
  const refreshed = await tree.ebb(['refresh', tree.path], { timeoutMs: answerMaxMs });
  assert.equal(refreshed.code, 1);
  assert.deepEqual((await readdir(path.join(tree.path, 'd'))).sort(), files.map(baseName));
  assert.equal(await disks.isRight(tree.path, 'd/cold'), false);
  await disks.put('right');
  await disks.untilRight(tree.path, 'd/cold');
});

function baseName(name: string): string {
  return path.basename(name);
}

async function killDaemon(tree: AttachedTree): Promise<void> {
  const { pid } = await tree.status();
  process.kill(pid, 'SIGKILL');
  await waitFor(async () => (await tree.status()).pid !== pid, {
    what: 'another daemon',
    timeoutMs: answerMaxMs,
  });
}
