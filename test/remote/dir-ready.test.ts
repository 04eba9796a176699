/** Files that a directory remote opens because they are about to be read. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readlink, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { closeWhenOpen, ReadyFiles } from '../../src/remote/dir/ready-files.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { noSignal, readAll } from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const fileBytes = 700_001;
const chunkBytes = 256 * 1024;

interface Origin extends AsyncDisposable {
  readonly remote: Remote;
  readonly path: string;
  readonly version: string;
  /** How many descriptors of this process are open below the directory. */
  open(): Promise<number>;
  /** Says that `d/file` will be read, and waits until it is open. */
  expect(): Promise<void>;
}

async function origin(): Promise<Origin> {
  const directory = await temporaryDirectory('ready');
  await mkdir(path.join(directory.path, 'd'));
  await writeFile(path.join(directory.path, 'd/file'), patternBytes(1, fileBytes));
  const remote = await openDirectoryRemote(directory.path);
  const { version } = await remote.stat('d/file', { signal: noSignal });
  assert.ok(version !== undefined);
  const open = async (): Promise<number> => {
    const links = await Promise.all(
      (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
    );
    return links.filter((link) => link.startsWith(`${directory.path}/`)).length;
  };
  return {
    remote,
    path: directory.path,
    version,
    open,
    async expect() {
      remote.expect?.('d/file', version);
      await waitFor(async () => (await open()) === 1, { what: 'it to be open' });
    },
    async [Symbol.asyncDispose]() {
      await remote.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

const range = { offsetBytes: 300_000, lengthBytes: chunkBytes };
const expectedBytes = patternBytes(1, chunkBytes, range.offsetBytes);

test('what is expected is opened, read once, and closed', async () => {
  await using there = await origin();
  const { remote, version } = there;
  for (let round = 0; round < 3; round += 1) {
    remote.expect?.('d/file', version);
    const read = await readAll(remote, 'd/file', { version, ...range });
    assert.ok(expectedBytes.equals(read.bytes));
    // Not expected again: opened by itself.
    assert.ok(expectedBytes.equals((await readAll(remote, 'd/file', { version, ...range })).bytes));
    assert.equal(await there.open(), 0);
  }
});

test('what nobody reads is closed after a moment, and when the remote is', async () => {
  await using there = await origin();
  await there.expect();
  await waitFor(async () => (await there.open()) === 0, { what: 'it to be closed' });
  there.remote.expect?.('d/file', there.version);
  await there.remote.close();
  await waitFor(async () => (await there.open()) === 0, { what: 'it to be closed' });
});

for (const [what, change, code] of [
  ['replaced', (file: string) => replace(file), 'ESTALE'],
  ['written', (file: string) => writeFile(file, patternBytes(2, fileBytes)), 'ESTALE'],
  ['deleted', (file: string) => rm(file), 'ENOENT'],
] as const) {
  test(`what is ${what} after it was expected fails as if it had not been`, async () => {
    await using there = await origin();
    const { remote } = there;
    for (let round = 0; round < 3; round += 1) {
      const { version = '' } = await remote.stat('d/file', { signal: noSignal });
      remote.expect?.('d/file', version);
      await change(path.join(there.path, 'd/file'));
      // Whatever order its opening and the change had.
      const read = readAll(remote, 'd/file', { version, ...range });
      await assert.rejects(read, { code });
      await waitFor(async () => (await there.open()) === 0, { what: 'nothing open' });
      await writeFile(path.join(there.path, 'd/file'), patternBytes(1, fileBytes));
    }
  });
}

test('what was expected of another version is not read', async () => {
  await using there = await origin();
  const { remote, version } = there;
  await there.expect();
  await writeFile(path.join(there.path, 'd/file'), patternBytes(2, fileBytes));
  const now = await remote.stat('d/file', { signal: noSignal });
  assert.notEqual(now.version, version);
  const read = await readAll(remote, 'd/file', { version: now.version, ...range });
  assert.ok(patternBytes(2, chunkBytes, range.offsetBytes).equals(read.bytes));
});

test('a directory that is another one since: the bytes of the version, from wherever it is now', async () => {
  await using there = await origin();
  const { remote, version } = there;
  await there.expect();
  await rename(path.join(there.path, 'd'), path.join(there.path, 'old'));
  await mkdir(path.join(there.path, 'd'));
  await writeFile(path.join(there.path, 'd/file'), patternBytes(2, fileBytes));
  // Right until the file that was opened is closed, unknown afterwards; never the bytes of the other one.
  for (;;) {
    const read = readAll(remote, 'd/file', { version, ...range });
    const bytes = await read.then(
      (all) => all.bytes,
      (error: unknown) => error,
    );
    if (!(bytes instanceof Uint8Array)) break;
    assert.ok(expectedBytes.equals(bytes));
  }
  await assert.rejects(readAll(remote, 'd/file', { version, ...range }), { code: 'ESTALE' });
});

test('what cannot be read is expected in vain', async () => {
  await using there = await origin();
  const { remote, version } = there;
  for (const [key, code] of [
    ['d', 'EISDIR'],
    ['none', 'ENOENT'],
    ['d/file/below', 'ENOENT'],
  ] as const) {
    remote.expect?.(key, version);
    await assert.rejects(readAll(remote, key, { version, ...range }), { code });
  }
  remote.expect?.('d/file', 'another version');
  await assert.rejects(readAll(remote, 'd/file', { version: 'another version', ...range }), {
    code: 'ESTALE',
  });
  assert.equal(await there.open(), 0);
});

test('files that do not open take no more than two threads of the pool, and few are kept', async () => {
  const ready = new ReadyFiles<{ content: Disposable }>();
  let closed = 0;
  const file = { content: { [Symbol.dispose]: () => void (closed += 1) } };
  const held = [0, 1].map(() => Promise.withResolvers<typeof file>());
  for (const [at, { promise }] of held.entries()) ready.expect(`held${at}`, 'v', () => promise);
  let opened = 0;
  const open = (): Promise<typeof file> => {
    opened += 1;
    return Promise.resolve(file);
  };
  ready.expect('third', 'v', open);
  assert.equal(opened, 0);
  assert.equal(await ready.take('third', 'v'), undefined);
  held[0]?.reject(new Error('does not open'));
  assert.equal(await ready.take('held0', 'v'), undefined);
  for (let at = 0; at < 40; at += 1) {
    ready.expect(`file${at}`, 'v', open);
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(opened > 0 && opened <= 16, `${opened} open`);
  ready.closeAll();
  held[1]?.resolve(file);
  await waitFor(() => closed === opened + 1, { what: 'all to be closed' });
  await closeWhenOpen(Promise.reject(new Error('does not open')));
});

async function replace(file: string): Promise<void> {
  await writeFile(`${file}.new`, patternBytes(2, fileBytes));
  await rename(`${file}.new`, file);
}
