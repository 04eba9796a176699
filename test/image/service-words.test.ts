/** What users type to libfuse's mount program, as the service of an image understands it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseServiceWords } from '../../src/image/service/words.ts';

test('image, directory and options, in any order; what is not known is refused', () => {
  const plain = { image: 'a.img', mountPoint: '/mnt', allowOther: false };
  const right: readonly (readonly [words: readonly string[], meant: object])[] = [
    [['a.img', '/mnt'], plain],
    [['-o', 'ro,nosuid,x-systemd.automount,nofail', 'a.img', '/mnt'], plain],
    [['a.img', '-oallow_other', '/mnt'], { ...plain, allowOther: true }],
    [
      ['a.img', '/mnt', '-o', 'offset=1048576,noload'],
      { ...plain, offsetBytes: 1_048_576, journal: 'ignore' },
    ],
    [
      ['a.img', '/mnt', '-o', 'partition=2', '-o', 'nofastcommit'],
      { ...plain, partition: 2, journal: 'full-commits' },
    ],
  ];
  for (const [words, meant] of right) {
    assert.deepEqual(parseServiceWords(['ebb-image', ...words]), meant, words.join(' '));
  }
  for (const words of [
    [],
    ['a.img'],
    ['a.img', '/mnt', 'more'],
    ['a.img', '/mnt', '-x'],
    ['a.img', '/mnt', '-o', 'rw'],
    ['a.img', '/mnt', '-o', 'partition=0'],
    ['a.img', '/mnt', '-o', 'offset=1,partition=1'],
    ['a.img', '/mnt', '-o', 'native'],
  ]) {
    assert.throws(() => parseServiceWords(['ebb-image', ...words]), { code: 'EINVAL' });
  }
});
