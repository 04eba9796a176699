/** What `ebb attach` sends: defaults, and refusals that name the option. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAttachOptions } from '../../src/daemon/attach-options.ts';

test('everything but the tree has a default; the remote may be the one it has', () => {
  const { tree, remote, fileMode, directoryMode, rules, retries } =
    parseAttachOptions('{"tree":"/srv/t"}');
  assert.deepEqual(
    { tree, remote, fileMode, directoryMode, rules, retries },
    {
      tree: '/srv/t',
      remote: undefined,
      fileMode: 0o644,
      directoryMode: 0o755,
      rules: [],
      retries: 4,
    },
  );
});

test('rules keep their order', () => {
  const rules = [
    { executable: 'updatedb', verdict: { deny: 'EPERM' } },
    { executable: '/usr/bin/*', verdict: 'whole' },
  ];
  assert.deepEqual(parseAttachOptions(JSON.stringify({ tree: '/t', rules })).rules, rules);
});

test('what is wrong is refused with the name of the option', () => {
  const cases: [object, RegExp][] = [
    [{}, /tree/],
    [{ tree: 'relative' }, /tree: must be an absolute path/],
    [{ tree: '/t', remote: '' }, /remote/],
    [{ tree: '/t', mountPoint: '/t' }, /mountPoint/],
    [
      { tree: '/t', rules: [{ executable: 'a', verdict: { deny: 'ENOENT' } }] },
      /rules\.0\.verdict/,
    ],
    [{ tree: '/t', rules: [{ executable: '', verdict: 'allow' }] }, /rules\.0\.executable/],
    [{ tree: '/t', wholeFileMaxBytes: -1 }, /wholeFileMaxBytes/],
  ];
  for (const [options, sentence] of cases) {
    assert.throws(() => parseAttachOptions(JSON.stringify(options)), {
      code: 'EINVAL',
      message: sentence,
    });
  }
  assert.throws(() => parseAttachOptions('nonsense'), { code: 'EINVAL' });
});
