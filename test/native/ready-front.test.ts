/** First ranges that the remote has ready are served before it is asked; whoever comes between goes first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StubChange } from '../../src/base/stub-facts.ts';
import type { RangeSink, ReadOptions, Remote } from '../../src/remote/remote.ts';
import { abandonOnAbort } from '../../src/remote/abortable.ts';
import { WrappedRemote } from '../../src/remote/wrapped.ts';
import { fillPattern, patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const MiB = 1024 * 1024;
const sizeBytes = 3 * MiB + 7;
const pageBytes = 4096;
// No program that gets whole files anywhere.
const readAt = (offsetBytes: number): string =>
  `python3 -c 'import os; os.write(1, os.pread(os.open("f", 0), ${pageBytes}, ${offsetBytes}))'`;
const readPage = readAt(0);

/** Has every file ready, and keeps its reads until they are let go. */
class ReadyRemote extends WrappedRemote {
  #letGo = Promise.withResolvers<void>();
  /** What is said first of what is asked for; then that it is there. */
  readonly says: (boolean | Promise<void>)[] = [];
  asked = 0;
  given = 0;
  reads = 0;

  constructor(inner: Remote) {
    super(inner);
    this.#letGo.resolve();
  }

  hold(): void {
    this.#letGo = Promise.withResolvers();
  }

  letGo(): void {
    this.#letGo.resolve();
  }

  override list: Remote['list'] = (key, options) => this.inner.list(key, options);
  override stat: Remote['stat'] = (key, options) => this.inner.stat(key, options);

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    this.reads += 1;
    await abandonOnAbort(this.#letGo.promise, options.signal);
    await this.inner.read(key, sink, options);
  }

  override readReady(
    _key: string,
    _version: string,
    into: Uint8Array,
    offsetBytes: number,
  ): boolean | Promise<void> {
    this.asked += 1;
    const said = this.says.shift() ?? true;
    if (said !== true) return said;
    this.given += 1;
    fillPattern(into, 1, offsetBytes);
    return true;
  }
}

async function readyScene(type: 'ext4' | 'xfs' | 'btrfs') {
  let remote: ReadyRemote | undefined;
  const scene = await nativeScene(type, { around: (inner) => (remote = new ReadyRemote(inner)) });
  assert.ok(remote !== undefined);
  return { scene, remote, file: scene.add('f', sizeBytes) };
}

/** The file as users see it. */
async function contentOf(scene: NativeScene): Promise<Buffer> {
  return (await scene.shell('cat f')).stdout;
}

const bytes = patternBytes(1, sizeBytes);
const page = bytes.subarray(0, pageBytes);

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: he has his bytes while the remote answers nothing, and nothing is claimed`, async () => {
    const { scene, remote, file } = await readyScene(type);
    await using _scene = scene;
    remote.hold();
    assert.ok((await scene.shell(readPage)).stdout.equals(page));
    assert.deepEqual([remote.given, file.residency.residentChunks], [1, 0]);
    await waitFor(() => remote.reads === 1, { what: 'the rest to be asked for' });
    // It is on its way.
    assert.equal((await scene.release(file)).released, false);
    const next = scene.shell(readAt(pageBytes));
    await waitFor(() => scene.server.counters().pending === 1, { what: 'the next page' });
    remote.letGo();
    assert.ok((await next).stdout.equals(bytes.subarray(pageBytes, 2 * pageBytes)));
    assert.equal(remote.given, 1, 'the chunk was being brought');
    assert.ok(file.residency.hasChunk(0));
    assert.ok((await contentOf(scene)).equals(bytes));
    await waitFor(async () => (await scene.release(file)).released, { what: 'its release' });
    assert.ok((await contentOf(scene)).equals(bytes));
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: who empties the file after that, or while it is being got ready, has it empty`, async () => {
    const { scene, remote, file } = await readyScene(type);
    await using _scene = scene;
    remote.hold();
    assert.ok((await scene.shell(readPage)).stdout.equals(page));
    await scene.shellOk(': > f');
    assert.equal((await contentOf(scene)).length, 0);
    assert.equal(file.change === StubChange.clean, false);

    const { scene: other, remote: far } = await readyScene(type);
    await using _other = other;
    const opening = Promise.withResolvers<void>();
    far.says.push(opening.promise);
    const reading = other.shell(readPage);
    await waitFor(() => far.asked === 1, { what: 'the reader' });
    await other.shellOk(': > f');
    opening.resolve();
    assert.equal((await reading).stdout.length, 0);
    assert.equal((await contentOf(other)).length, 0);
    assert.deepEqual([far.given, far.reads], [0, 0]);
  });
}

test('who writes to it while it is being got ready has all of it, and what he wrote', async () => {
  const { scene, remote } = await readyScene('xfs');
  await using _scene = scene;
  const opening = Promise.withResolvers<void>();
  remote.says.push(opening.promise);
  const reading = scene.shell(readPage);
  await waitFor(() => remote.asked === 1, { what: 'the reader' });
  await scene.shellOk('printf USER | dd of=f conv=notrunc status=none');
  opening.resolve();
  const written = Buffer.concat([Buffer.from('USER'), bytes.subarray(4)]);
  assert.ok((await reading).stdout.equals(written.subarray(0, pageBytes)));
  assert.equal(remote.given, 0);
  assert.ok((await contentOf(scene)).equals(written));
});

test('what cannot be had at once, or not in time, is recalled; a reader who was killed leaves nothing', async () => {
  const { scene, remote, file } = await readyScene('xfs');
  await using _scene = scene;
  remote.says.push(Promise.resolve(), false);
  assert.ok((await scene.shell(readPage)).stdout.equals(page));
  assert.deepEqual([remote.given, file.residency.residentChunks], [0, 1]);
  await waitFor(async () => (await scene.release(file)).released, { what: 'its release' });
  remote.says.push(new Promise(() => undefined));
  const { timedOut } = await scene.shell(`exec ${readPage}`, { timeoutMs: 500 });
  assert.ok(timedOut);
  scene.server.close();
  assert.equal(scene.server.counters().pending, 0);
  assert.equal(scene.engine.isBusy(file.id), false);
});

test('the rest fails: who was served was served right, who comes next gets the error, then right bytes', async () => {
  const { scene, remote, file } = await readyScene('xfs');
  await using _scene = scene;
  scene.fault = () => ({ kind: 'error', code: 'EIO' });
  assert.ok((await scene.shell(readPage)).stdout.equals(page));
  await waitFor(() => !scene.engine.isBusy(file.id), { what: 'the failure' });
  assert.equal(file.residency.residentChunks, 0);
  remote.says.push(false);
  const { code, stderr } = await scene.shell(readPage);
  assert.notEqual(code, 0);
  assert.match(stderr.toString(), /Input\/output error/);
  scene.fault = undefined;
  assert.ok((await contentOf(scene)).equals(bytes));
});
