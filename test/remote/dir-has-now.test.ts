/** What a directory remote says at once of what is there: never that a version is, when it is not. */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { checkedRemote } from '../../src/remote/checked.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import { LateRemote } from '../../src/remote/late.ts';
import { limitedRemote } from '../../src/remote/limit.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { retryingRemote } from '../../src/remote/retry.ts';
import { tracedRemote } from '../../src/remote/trace.ts';
import { noSignal } from '../conformance/collect.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const asRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };
const key = 'sub/file';
const sizeBytes = 11;
const triesMax = 200;

interface Origin extends AsyncDisposable {
  readonly remote: Remote;
  readonly file: string;
  readonly version: string;
  /**
   * Whether `remote`, or what was put around it, says in any of many tries that the file is there, which the kernel
   * knows by this path.
   */
  has(remote?: Remote, at?: string): boolean;
}

/** The remote is `root`, where `sub/file` is made. */
async function origin(root: string): Promise<Origin> {
  const file = path.join(root, key);
  mkdirSync(path.dirname(file));
  writeFileSync(file, 'a'.repeat(sizeBytes));
  const remote = await openDirectoryRemote(root);
  const { version = '' } = await remote.stat(key, { signal: noSignal });
  return {
    remote,
    file,
    version,
    has(one = remote, at = file) {
      // The kernel looks for names without waiting, which a mount or a rename of anybody, or a lack of memory, keeps it
      // from for a moment.
      for (let tries = 0; tries < triesMax; tries += 1) {
        statSync(at, { throwIfNoEntry: false });
        if (one.hasNow?.(key, version, sizeBytes) === true) return true;
      }
      return false;
    },
    [Symbol.asyncDispose]: () => remote.close(),
  };
}

test('it is there: its version, with its size, by whatever path', asRoot, async () => {
  await using directory = await temporaryDirectory('has');
  await using there = await origin(directory.path);
  const { remote, version } = there;
  assert.equal(there.has(), true);
  assert.equal(remote.hasNow?.(key, version, sizeBytes + 1), false, 'another size');
  assert.equal(remote.hasNow?.(key, `${version}0`, sizeBytes), false, 'another version');
  assert.equal(remote.hasNow?.('sub/other', version, sizeBytes), false, 'no such name');
  assert.equal(remote.hasNow?.('sub', version, sizeBytes), false, 'a directory');
  assert.equal(remote.hasNow?.('../sub/file', version, sizeBytes), false, 'no key');
  await using elsewhere = await temporaryDirectory('has-link');
  const link = path.join(elsewhere.path, 'link');
  symlinkSync(directory.path, link);
  const linked = await openDirectoryRemote(link);
  assert.equal(
    there.has(linked, path.join(link, key)),
    true,
    'a symlink before the root is followed',
  );
  await linked.close();
  await remote.close();
  assert.equal(there.has(), false, 'nobody is asked any more');
});

for (const [what, change] of [
  [
    'replaced by an equal one',
    (file: string) => {
      writeFileSync(`${file}.new`, 'a'.repeat(sizeBytes));
      renameSync(`${file}.new`, file);
    },
  ],
  ['written', (file: string) => writeFileSync(file, 'b'.repeat(sizeBytes))],
  ['cut off', (file: string) => truncateSync(file, 1)],
  ['deleted', (file: string) => rmSync(file)],
  ['touched', (file: string) => utimesSync(file, 1, 1)],
  [
    'replaced by a symlink to it',
    (file: string) => {
      renameSync(file, `${file}.old`);
      symlinkSync('file.old', file);
    },
  ],
  [
    'put behind a symlink',
    (file: string) => {
      renameSync(path.dirname(file), `${path.dirname(file)}.old`);
      symlinkSync('sub.old', path.dirname(file));
    },
  ],
] as const) {
  test(`what was ${what} is not there`, asRoot, async () => {
    await using directory = await temporaryDirectory('has');
    await using there = await origin(directory.path);
    change(there.file);
    assert.equal(there.has(), false);
  });
}

test('below another mount nothing is said, nor by a root that was replaced', asRoot, async () => {
  await using directory = await temporaryDirectory('has');
  const root = path.join(directory.path, 'root');
  mkdirSync(root);
  await using there = await origin(root);
  const covered = path.dirname(there.file);
  // The same directory, so the same inode and version, through another mount.
  await runOk('mount', ['--bind', covered, covered]);
  try {
    assert.equal(there.has(), false);
  } finally {
    await runOk('umount', [covered]);
  }
  assert.equal(there.has(), true);
  renameSync(root, `${root}.old`);
  mkdirSync(path.join(root, 'sub'), { recursive: true });
  writeFileSync(there.file, 'a'.repeat(sizeBytes));
  assert.equal(there.has(), false);
});

test('what is put around it says the same, or nothing where a stat is more', asRoot, async () => {
  await using directory = await temporaryDirectory('has');
  await using there = await origin(directory.path);
  const { remote } = there;
  const late = new LateRemote({ kind: 'dir', displayName: '/far' }, () => Promise.resolve(remote));
  assert.equal(there.has(late), false, 'it is not open yet');
  await late.stat(key, { signal: noSignal });
  const wrapped: readonly (readonly [Remote, boolean])[] = [
    [retryingRemote(checkedRemote(limitedRemote(late, { requestsMax: 1 }))), true],
    [tracedRemote(remote, { onRequest: () => undefined }), false],
    [faultyRemote(remote, () => undefined), false],
  ];
  for (const [outer, may] of wrapped) {
    assert.equal(there.has(outer), may, outer.constructor.name);
  }
});
