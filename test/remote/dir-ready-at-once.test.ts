/** What a directory remote has got ready is read in the thread that asks, and never what is not that version. */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  renameSync,
  statSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { treeMarkName } from '../../src/base/tree-mark.ts';
import { checkedRemote } from '../../src/remote/checked.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { ReadyFiles } from '../../src/remote/dir/ready-files.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import { LateRemote } from '../../src/remote/late.ts';
import { limitedRemote } from '../../src/remote/limit.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { retryingRemote } from '../../src/remote/retry.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import { setXattr } from '../../src/sys/xattr.ts';
import { noSignal, readAll } from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const fileBytes = 700_001;
const pieceBytes = 64 * 1024;
const at = 300_000;
const piece = patternBytes(1, pieceBytes, at);

interface Origin extends AsyncDisposable {
  readonly remote: Remote;
  readonly file: string;
  readonly version: string;
  readonly into: Buffer;
  /** What is said of the file now, by `remote` or what was put around it. */
  say(remote?: Remote): boolean | Promise<void> | undefined;
  /** Gets it ready. Until the next turn of the event loop it stays so. */
  ready(): Promise<void>;
}

async function origin(): Promise<Origin> {
  const directory = await temporaryDirectory('ready');
  const file = path.join(directory.path, 'file');
  await writeFile(file, patternBytes(1, fileBytes));
  const remote = await openDirectoryRemote(directory.path);
  const { version = '' } = await remote.stat('file', { signal: noSignal });
  const into = Buffer.alloc(pieceBytes);
  const say = (asked = remote) => asked.readReady?.('file', version, into, at);
  return {
    remote,
    file,
    version,
    into,
    say,
    async ready() {
      // On a busy machine it may have been closed again before it was looked at; and names that other tests have had
      // the kernel forget are not found at once.
      for (let said = say(), tries = 0; said !== true; said = say(), tries += 1) {
        assert.ok(tries < 1_000, 'it is ready at last');
        if (said === false) {
          statSync(file);
          remote.expect?.('file', version);
        }
        await said;
      }
    },
    async [Symbol.asyncDispose]() {
      await remote.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

test(
  'what is ready is read as often as asked, within its limits, and is there for a read',
  asRoot,
  async () => {
    await using there = await origin();
    const { remote, version, into } = there;
    assert.equal(there.say(), false, 'nobody expects it');
    remote.expect?.('file', version);
    assert.ok(there.say() instanceof Promise, 'being opened');
    await there.ready();
    for (let round = 0; round < 2; round += 1) {
      into.fill(0);
      assert.equal(there.say(), true);
      assert.ok(into.equals(piece));
    }
    const say = (key: string, asked: string, memory: Uint8Array, offsetBytes: number) =>
      remote.readReady?.(key, asked, memory, offsetBytes);
    assert.equal(say('file', 'another version', into, at), false);
    assert.equal(say('other', version, into, at), false);
    assert.equal(say('file', version, into, fileBytes - 10), false, 'beyond its end');
    assert.equal(say('file', version, new Uint8Array(300_000), 0), false, 'too much at once');
    assert.equal(there.say(), true);
    const range = { version, offsetBytes: at, lengthBytes: pieceBytes };
    assert.ok((await readAll(remote, 'file', range)).bytes.equals(piece));
    assert.equal(there.say(), false, 'that was its one read');
  },
);

for (const [what, change] of [
  [
    'replaced',
    (file: string) => {
      writeFileSync(`${file}.new`, patternBytes(2, fileBytes));
      renameSync(`${file}.new`, file);
    },
  ],
  ['written', (file: string) => writeFileSync(file, patternBytes(2, fileBytes))],
  ['cut off', (file: string) => truncateSync(file, at)],
  ['deleted', (file: string) => rmSync(file)],
  ['touched', (file: string) => utimesSync(file, 1, 1)],
] as const) {
  test(`what was ${what} since it was got ready is not read at once`, asRoot, async () => {
    await using there = await origin();
    await there.ready();
    change(there.file);
    assert.equal(there.say(), false);
  });
}

test(
  'it is found by a path with a symlink in it, too, and not in another directory',
  asRoot,
  async () => {
    await using directory = await temporaryDirectory('ready-root');
    const [real, link] = ['real', 'link'].map((name) => path.join(directory.path, name));
    assert.ok(real !== undefined && link !== undefined);
    mkdirSync(real);
    symlinkSync(real, link);
    writeFileSync(path.join(real, 'file'), patternBytes(1, fileBytes));
    const into = Buffer.alloc(pieceBytes);
    for (const [root, moves] of [
      [link, false],
      [real, true],
    ] as const) {
      const remote = await openDirectoryRemote(root);
      const { version = '' } = await remote.stat('file', { signal: noSignal });
      const say = () => remote.readReady?.('file', version, into, at);
      const ready = async (): Promise<void> => {
        statSync(path.join(root, 'file'));
        remote.expect?.('file', version);
        await say();
      };
      for (let tries = 0; say() !== true && tries < 1_000; tries += 1) await ready();
      assert.equal(say(), true, root);
      assert.ok(into.equals(piece));
      if (moves) {
        await readAll(remote, 'file', { version, offsetBytes: 0, lengthBytes: 1 });
        renameSync(real, `${real}.old`);
        mkdirSync(real);
        writeFileSync(path.join(real, 'file'), patternBytes(1, fileBytes));
        await ready();
        assert.equal(say(), false, 'another file of the same name');
      }
      await remote.close();
    }
  },
);

test('what another tree has to bring is not read at once', asRoot, async () => {
  await using there = await origin();
  await there.ready();
  setXattr(there.file, treeMarkName, Uint8Array.of(1));
  const { version = '' } = await there.remote.stat('file', { signal: noSignal });
  const say = () => there.remote.readReady?.('file', version, there.into, at);
  await readAll(there.remote, 'file', { version: there.version }).catch(() => undefined);
  there.remote.expect?.('file', version);
  await say();
  assert.equal(say(), false);
});

test('whoever limits, counts or disturbs reads has no bytes go past him', asRoot, async () => {
  await using there = await origin();
  const { remote } = there;
  const late = new LateRemote({ kind: 'dir', displayName: '/far' }, () => Promise.resolve(remote));
  assert.equal(there.say(late), false, 'not open yet');
  await late.stat('file', { signal: noSignal });
  const wrapped: readonly (readonly [Remote, boolean])[] = [
    [retryingRemote(checkedRemote(limitedRemote(remote, { requestsMax: 1 }))), true],
    [late, true],
    [limitedRemote(remote, { bytesPerSecond: 1e9 }), false],
    [tracedRemote(remote, { onRequest: () => undefined }), false],
    [faultyRemote(remote, () => undefined), false],
  ];
  await there.ready();
  for (const [outer, may] of wrapped) assert.equal(there.say(outer), may, outer.constructor.name);
  assert.equal(there.say(), true);
});

test('an opening that hangs is waited for no longer than anything is kept ready', async () => {
  const ready = new ReadyFiles<{ readonly content: Disposable }>();
  const hangs = Promise.withResolvers<{ readonly content: Disposable }>();
  ready.expect('file', 'v', () => hangs.promise);
  const opening = ready.look('file', 'v');
  assert.ok(opening instanceof Promise);
  // What is kept ready keeps no process alive.
  const said = await Promise.race([opening, sleep(10_000, 'hangs')]);
  assert.equal(said, undefined);
  assert.equal(ready.look('file', 'v'), undefined);
  hangs.reject(new Error('ended'));
});
