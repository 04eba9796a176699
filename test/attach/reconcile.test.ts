/** What a listing means for a directory, case by case. */
import { StubChange } from '../../src/base/stub-facts.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reconcile, symlinkVersion } from '../../src/attach/reconcile.ts';
import type { DirectoryPlan, LocalEntry, ReconcileInput } from '../../src/attach/reconcile.ts';
import type { KnownKey, StubRecord } from '../../src/catalog/stub-catalog.ts';
import type { ListedObject } from '../../src/remote/remote.ts';
import { stubRecord as record } from './stub-record.ts';

const file = (version: string, sizeBytes = 10): ListedObject => ({
  name: 'a',
  kind: 'file',
  sizeBytes,
  version,
});
const link = (target: string): ListedObject => ({ name: 'a', kind: 'symlink', target });
const ours = (overrides: Partial<StubRecord> = {}): LocalEntry => ({
  kind: 'file',
  record: record(overrides),
});

interface Case {
  readonly remote?: ListedObject;
  readonly local?: LocalEntry;
  /** Of the key, when `local` is not it. */
  readonly elsewhere?: StubRecord;
  readonly known?: Omit<KnownKey, 'key'>;
  readonly wasListed?: boolean;
  readonly isFirst?: boolean;
}

function planOf(scene: Case): DirectoryPlan {
  const { remote, local, elsewhere, known, wasListed = false, isFirst = false } = scene;
  const localRecord = local?.kind === 'file' ? local.record : undefined;
  const input: ReconcileInput = {
    key: 'd',
    listed: remote === undefined ? [] : [remote],
    skipped: [],
    local: new Map(local === undefined ? [] : [['a', local]]),
    isFirst,
    recordOf: () => elsewhere ?? (localRecord?.key === 'd/a' ? localRecord : undefined),
    knownOf: (key) => known && { key, ...known },
    wasListed: () => wasListed,
  };
  return reconcile(input);
}

/** The plan in a word or two. */
function said(scene: Case): string {
  const plan = planOf(scene);
  const words = [
    ...plan.files.map(({ replaces }) =>
      replaces === undefined ? 'stub' : `replace ${replaces.id}`,
    ),
    ...plan.directories.map(({ isNew }) => (isNew ? 'mkdir' : 'enter')),
    ...plan.symlinks.map(({ replaces }) =>
      replaces === undefined ? 'link' : `relink ${replaces}`,
    ),
    ...plan.knownLinks.map(() => 'know'),
    ...plan.removed.map(() => 'remove'),
    ...plan.goneDirectories.map(() => 'gone directory'),
    ...plan.lostIds.map((id) => `lost ${id}`),
    ...plan.foundIds.map((id) => `found ${id}`),
    ...plan.reports.map(({ kind }) => `report ${kind}`),
  ];
  return words.join(', ');
}

const directory: ListedObject = { name: 'a', kind: 'directory' };

const cases: [string, Case, string][] = [
  ['a new file', { remote: file('v1') }, 'stub'],
  ['a new directory', { remote: directory }, 'mkdir'],
  ['a new link', { remote: link('x') }, 'link'],
  ['a socket', { remote: { name: 'a', kind: 'other' } }, 'report skipped'],
  [
    'a file without an exact size',
    { remote: { name: 'a', kind: 'file', version: 'v' } },
    'report skipped',
  ],
  [
    'a file without a version',
    { remote: { name: 'a', kind: 'file', sizeBytes: 1 } },
    'report skipped',
  ],
  ['a link that leads nowhere', { remote: { name: 'a', kind: 'symlink' } }, 'report skipped'],
  ['the same version', { remote: file('v1'), local: ours() }, ''],
  [
    'the same version, changed here',
    { remote: file('v1'), local: ours({ change: StubChange.dirty }) },
    '',
  ],
  ['the remote has it again', { remote: file('v1'), local: ours({ lost: true }) }, 'found 1'],
  ['another version', { remote: file('v2'), local: ours() }, 'replace 1'],
  [
    'another version, all of the old one here',
    { remote: file('v2'), local: ours({ complete: true, residentBytes: 10 }) },
    'replace 1',
  ],
  ['another size under the same version', { remote: file('v1', 11), local: ours() }, 'replace 1'],
  ...[StubChange.intent, StubChange.discarding, StubChange.dirty].map(
    (change): [string, Case, string] => [
      `another version, and changed here (${change})`,
      { remote: file('v2'), local: ours({ change }) },
      'lost 1, report conflict',
    ],
  ),
  [
    "a user's own file",
    { remote: file('v1'), local: { kind: 'file', record: undefined } },
    'report kept',
  ],
  [
    "a user's own directory where a file is",
    { remote: file('v1'), local: { kind: 'directory' } },
    'report kept',
  ],
  [
    "a user's own file where a directory is",
    { remote: directory, local: { kind: 'file', record: undefined } },
    'report kept',
  ],
  [
    'a directory there now, nothing of the file here',
    { remote: directory, local: ours() },
    'remove',
  ],
  [
    'a directory there now, all of the file here',
    { remote: directory, local: ours({ complete: true, residentBytes: 10 }) },
    'lost 1, report lost, report kept',
  ],
  [
    'a directory there now, the file changed here',
    { remote: directory, local: ours({ change: StubChange.dirty }) },
    'lost 1, report kept, report kept',
  ],
  [
    'a file there now, a link here as it came',
    {
      remote: file('v1'),
      local: { kind: 'symlink', target: 'x' },
      known: { id: 0, version: symlinkVersion('x') },
    },
    'remove',
  ],
  [
    'a file there now, a link of a user here',
    { remote: file('v1'), local: { kind: 'symlink', target: 'x' } },
    'report kept',
  ],
  [
    'a file there now, the directory it was here',
    { remote: file('v1'), local: { kind: 'directory' }, wasListed: true },
    'gone directory',
  ],
  ["a user's own socket", { remote: file('v1'), local: { kind: 'other' } }, 'report kept'],
  [
    'another file of ours that a user moved here',
    { remote: file('v1'), local: ours({ key: 'd/b' }) },
    'report kept',
  ],
  [
    'a further name of a hard link',
    { remote: file('v1'), local: ours({ key: 'd/b' }), known: { id: 1, version: 'v1' } },
    '',
  ],
  [
    'a further name, another version',
    { remote: file('v2'), local: ours({ key: 'd/b' }), known: { id: 1, version: 'v1' } },
    'replace 1',
  ],
  ['deleted here', { remote: file('v1'), known: { id: 0, version: 'v1' } }, ''],
  [
    'deleted here, and the remote has a new version',
    { remote: file('v2'), known: { id: 0, version: 'v1' } },
    'stub',
  ],
  ['renamed here', { remote: file('v1'), elsewhere: record() }, ''],
  [
    'an older version was renamed here, then this one deleted',
    { remote: file('v2'), elsewhere: record(), known: { version: 'v2', id: 0 } },
    '',
  ],
  [
    'renamed here, and the remote has a new version',
    { remote: file('v2'), elsewhere: record() },
    'stub, lost 1',
  ],
  [
    'renamed here, but this directory was never complete',
    { remote: file('v1'), elsewhere: record(), isFirst: true },
    'stub',
  ],
  [
    'deleted here, but this directory was never complete',
    { remote: file('v1'), known: { id: 0, version: 'v1' }, isFirst: true },
    'stub',
  ],
  [
    'a directory that is here',
    { remote: directory, local: { kind: 'directory' }, wasListed: true },
    'enter',
  ],
  ['a directory that was deleted here', { remote: directory, wasListed: true }, ''],
  [
    'a directory of an interrupted run',
    { remote: directory, wasListed: true, isFirst: true },
    'mkdir',
  ],
  ['a link that is here', { remote: link('x'), local: { kind: 'symlink', target: 'x' } }, 'know'],
  [
    'a link that is here and known',
    {
      remote: link('x'),
      local: { kind: 'symlink', target: 'x' },
      known: { id: 0, version: symlinkVersion('x') },
    },
    '',
  ],
  [
    'a link that was changed there',
    {
      remote: link('y'),
      local: { kind: 'symlink', target: 'x' },
      known: { id: 0, version: symlinkVersion('x') },
    },
    'relink x',
  ],
  [
    'a link that was changed here',
    {
      remote: link('x'),
      local: { kind: 'symlink', target: 'mine' },
      known: { id: 0, version: symlinkVersion('x') },
    },
    'report kept',
  ],
  [
    'a link that was deleted here',
    { remote: link('x'), known: { id: 0, version: symlinkVersion('x') } },
    '',
  ],
  ['gone there, nothing of it here', { local: ours() }, 'remove'],
  ['gone there, an empty file', { local: ours({ sizeBytes: 0, complete: true }) }, 'remove'],
  ['gone there, pinned but not here', { local: ours({ pinned: true }) }, 'remove'],
  [
    'gone there, all of it here',
    { local: ours({ complete: true, residentBytes: 10 }) },
    'lost 1, report lost',
  ],
  ['gone there, a part of it here', { local: ours({ residentBytes: 4 }) }, 'lost 1, report lost'],
  ['gone there, said before', { local: ours({ residentBytes: 4, lost: true }) }, ''],
  [
    'gone there, changed here',
    { local: ours({ change: StubChange.intent }) },
    'lost 1, report kept',
  ],
  ['gone there, moved here by a user', { local: ours({ key: 'e/a' }) }, ''],
  ["gone there, but a user's own", { local: { kind: 'file', record: undefined } }, ''],
  [
    'a link that went there',
    { local: { kind: 'symlink', target: 'x' }, known: { id: 0, version: symlinkVersion('x') } },
    'remove',
  ],
  ["a user's own link", { local: { kind: 'symlink', target: 'x' } }, ''],
  [
    'a directory that went there',
    { local: { kind: 'directory' }, wasListed: true },
    'gone directory',
  ],
  ["a user's own directory", { local: { kind: 'directory' } }, ''],
  ["a user's own socket that the remote never had", { local: { kind: 'other' } }, ''],
];

for (const [name, scene, expected] of cases) {
  test(`${name}: ${expected === '' ? 'nothing' : expected}`, () => {
    assert.equal(said(scene), expected);
  });
}

test("the tree's own name at the root is not the remote's to give, elsewhere it is", () => {
  const listed: ListedObject[] = [{ name: '.ebb', kind: 'directory' }];
  const rest = { listed, skipped: [], local: new Map(), isFirst: true };
  const ask = { recordOf: () => undefined, knownOf: () => undefined, wasListed: () => false };
  assert.deepEqual(reconcile({ key: '', ...rest, ...ask }).directories, []);
  assert.equal(reconcile({ key: 'd', ...rest, ...ask }).directories.length, 1);
});

test('names that the listing could not show are reported', () => {
  const { reports } = reconcile({
    key: 'd',
    listed: [],
    skipped: [{ raw: 'a/b', why: 'the name contains a slash' }],
    local: new Map(),
    isFirst: true,
    recordOf: () => undefined,
    knownOf: () => undefined,
    wasListed: () => false,
  });
  assert.deepEqual(reports, [
    { kind: 'skipped', key: 'd/a/b', message: 'the name contains a slash' },
  ]);
});
