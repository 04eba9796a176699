/** The pure parts: units, patterns, progress, help, sums, names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseMountInfo } from '../../src/base/mount-info.ts';
import { encodeName, decodeName } from '../../src/base/name.ts';
import { decodePathParameter, encodePathParameter } from '../../src/base/percent.ts';
import { formatMode } from '../../src/cli/file-line.ts';
import { globMatcher, hasMagic } from '../../src/base/glob.ts';
import { wrap } from '../../src/cli/help.ts';
import { splitNames } from '../../src/cli/path-arguments.ts';
import { RateMeter, renderBar, renderProgress } from '../../src/cli/progress.ts';
import { lastWords } from '../../src/cli/raw-arguments.ts';
import { editDistance, suggest } from '../../src/cli/suggest.ts';
import { alignRows } from '../../src/cli/table.ts';
import { visible } from '../../src/cli/terminal.ts';
import {
  formatBytes,
  formatBytesShort,
  formatDuration,
  parseDuration,
  parseSize,
} from '../../src/cli/units.ts';
import { expandFstabOptions } from '../../src/cli/mount/fstab-options.ts';
import { parseRange } from '../../src/cli/demo/server.ts';
import { renderListing } from '../../src/cli/demo/listing.ts';

test('sizes', () => {
  assert.deepEqual(
    ['0', '512', '1K', '1KiB', '1KB', '1.5M', '20 G', '7b'].map((text) => parseSize(text, 'x')),
    [0, 512, 1024, 1024, 1000, 1.5 * 1024 ** 2, 20 * 1024 ** 3, 7],
  );
  for (const wrong of ['', '-1', '1X', 'K', '1e9', '9999999E', '1 2']) {
    assert.throws(() => parseSize(wrong, '--cache-size'), /--cache-size wants a size/, wrong);
  }
  assert.deepEqual([0, 999, 1023, 1024, 10_200, 1024 ** 2 - 1, 5 * 1024 ** 3].map(formatBytes), [
    '0 B',
    '999 B',
    '1023 B',
    '1.0 KiB',
    '10 KiB',
    '1.0 MiB',
    '5.0 GiB',
  ]);
  assert.deepEqual([999, 1024, 3 * 1024 ** 4].map(formatBytesShort), ['999', '1.0K', '3.0T']);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 52 }), (bytes) => {
      const back = parseSize(formatBytes(bytes), 'x');
      assert.ok(Math.abs(back - bytes) <= bytes * 0.06);
      assert.ok(formatBytes(bytes).length <= 8);
    }),
  );
});

test('durations', () => {
  assert.deepEqual(
    ['0', '10', '500ms', '1.5s', '5m', '2h', '1d'].map((text) => parseDuration(text, 'x')),
    [0, 10_000, 500, 1500, 300_000, 7_200_000, 86_400_000],
  );
  assert.throws(() => parseDuration('soon', '--ttl'), /--ttl wants a duration/);
  assert.deepEqual([5, 8300, 59_990, 245_000, 10_931_000, 190_800_000].map(formatDuration), [
    '5 ms',
    '8.3 s',
    '1:00',
    '4:05',
    '3:02:11',
    '2d 05:00',
  ]);
});

test('patterns', () => {
  const cases: [string, string[], string[]][] = [
    ['*.txt', ['.txt', 'a.txt', 'a\n.txt'], ['a.txtx', 'atxt']],
    ['?', ['a', '\u{1f600}', '.'], ['', 'ab']],
    ['[a-c]x', ['ax', 'cx'], ['dx', 'x']],
    ['[!a-c]x', ['dx', '-x'], ['ax']],
    ['[]-]', [']', '-'], ['a']],
    ['[a', ['[a'], ['a']],
    ['a\\*b', ['a*b'], ['axb', 'a\\*b']],
    ['(a|b)+$', ['(a|b)+$'], ['a']],
  ];
  for (const [pattern, yes, no] of cases) {
    const matches = globMatcher(pattern);
    for (const name of yes) assert.ok(matches(name), `${pattern} ${name}`);
    for (const name of no) assert.ok(!matches(name), `${pattern} ${name}`);
  }
  assert.ok(globMatcher('A*', true)('abc'));
  assert.ok(hasMagic('a[b') && !hasMagic('a{b}'));
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (name) => {
      const quoted = name.replace(/[*?[\]\\]/g, String.raw`\$&`);
      assert.ok(globMatcher(quoted)(name));
    }),
  );
  // Patterns of many stars must not take for ever.
  assert.equal(globMatcher(`${'*a'.repeat(30)}x`)('a'.repeat(255)), false);
});

test('names are shown harmlessly and without loss', () => {
  assert.equal(
    visible('a\u001b[2J\r\n\u0085\u202e\udce9\\'),
    'a\\e[2J\\r\\n\\x85\\u{202e}\\xe9\\\\',
  );
  assert.equal(visible('grün 日本 🙂'), 'grün 日本 🙂');
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      const [nameA, nameB] = [decodeName(a), decodeName(b)];
      // oxlint-disable-next-line no-control-regex
      assert.ok(!/[\u0000-\u001f\u007f-\u009f]/.test(visible(nameA)));
      assert.equal(visible(nameA) === visible(nameB), nameA === nameB);
      assert.deepEqual([...encodeName(decodePathParameter(encodePathParameter(nameA)))], [...a]);
      assert.match(encodePathParameter(nameA), /^[\w\-.~/%]*$/);
    }),
  );
});

test('raw arguments and lists keep every byte', () => {
  const cmdline = Buffer.from([0x6e, 0, 0x73, 0, 0xe9, 0x61, 0, 0]);
  assert.deepEqual(lastWords(cmdline, 2), ['\udce9a', '']);
  assert.equal(lastWords(cmdline, 9), undefined);
  assert.deepEqual(splitNames(Buffer.from([0xff, 10, 10, 97]), false), ['\udcff', 'a']);
  assert.deepEqual(splitNames(Buffer.from('a\nb\0c\0'), true), ['a\nb', 'c']);
});

test('suggestions', () => {
  assert.equal(editDistance('mount', 'mount'), 0);
  assert.equal(editDistance('umuont', 'umount'), 1);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(suggest('stauts', ['status', 'mount']), 'status');
  assert.equal(suggest('zzz', ['status', 'mount']), undefined);
});

test('progress line', () => {
  const progress = {
    path: 'dir/some-long-name.iso',
    totalDoneBytes: 512 * 1024 ** 2,
    totalBytes: 1024 ** 3,
    filesDone: 3,
    filesTotal: 12,
  };
  assert.equal(
    renderProgress(progress, 64 * 1024 ** 2, 120),
    '[##########..........] 50%  512 MiB of 1.0 GiB  3/12 files  64 MiB/s  8.0 s left  dir/some-long-name.iso',
  );
  assert.match(renderProgress(progress, undefined, 80), /3\/12 files  \.\.\..*iso$/);
  assert.equal(renderBar(2, 4), '[####]');
  const number = fc.integer({ min: 0, max: 2 ** 50 });
  fc.assert(
    fc.property(
      fc.record({
        path: fc.string({ unit: 'binary' }),
        totalDoneBytes: number,
        totalBytes: number,
        filesDone: number,
        filesTotal: number,
      }),
      fc.option(fc.double({ min: 0, noNaN: true }), { nil: undefined }),
      fc.integer({ min: 1, max: 200 }),
      (any, rate, columns) => {
        const line = renderProgress(any, rate, columns);
        assert.ok(line.length <= columns);
        // oxlint-disable-next-line no-control-regex
        assert.ok(!/[\u0000-\u001f]/.test(line));
      },
    ),
  );
});

test('the rate follows what happens now', () => {
  const meter = new RateMeter();
  assert.equal(meter.bytesPerSecond(), undefined);
  for (let second = 0; second <= 60; second += 1) meter.add(second * 1000, second * 1000);
  assert.equal(meter.bytesPerSecond(), 1000);
  for (let second = 61; second <= 70; second += 1) meter.add(60_000, second * 1000);
  assert.equal(meter.bytesPerSecond(), 0);
});

test('modes, tables, wrapping', () => {
  assert.equal(formatMode('file', 0o644), '-rw-r--r--');
  assert.equal(formatMode('directory', 0o7755), 'drwsr-sr-t');
  assert.equal(formatMode('file', 0o7000), '---S--S--T');
  assert.equal(formatMode('symlink', -1), 'l?????????');
  assert.deepEqual(
    alignRows(
      [
        ['a', '1'],
        ['bbb', '22'],
      ],
      [{}, { align: 'right' }],
    ),
    ['a     1', 'bbb  22'],
  );
  assert.deepEqual(wrap('aa bb cc', 7, '  '), ['  aa bb', '  cc']);
});

test('fstab options become long options', () => {
  const words = [
    'http://x/',
    '/mnt',
    '-o',
    'rw,nofail,_netdev,ttl=5m,allow_other,x-systemd.automount,user=ann',
  ];
  assert.deepEqual(expandFstabOptions(words), [
    'http://x/',
    '/mnt',
    '--ttl=5m',
    '--allow-other',
    '--user=ann',
  ]);
  assert.deepEqual(expandFstabOptions(['-ocache_size=1G', '--', '-o', 'ro']), [
    '--cache-size=1G',
    '--',
    '-o',
    'ro',
  ]);
  assert.deepEqual(expandFstabOptions(['-o', 'nosuid,nodev,noexec']), ['--noexec']);
  assert.deepEqual(expandFstabOptions(['-o', 'noexec,user,exec']), []);
  assert.deepEqual(expandFstabOptions(['-o', 'no_allow_other']), ['--no-allow-other']);
});

test('mountinfo', () => {
  const text =
    '36 35 98:0 / /mnt/a\\040b\\134 rw,noatime shared:1 - ext3 /dev/root rw,errors=continue\n' +
    '40 35 0:50 / /mnt/\u00c3\u00a9 ro - fuse.ebb http://x/ ro,user_id=0\ngarbage\n';
  const [first, second, third] = parseMountInfo(Buffer.from(text, 'latin1'));
  assert.equal(first?.mountPoint, '/mnt/a b\\');
  assert.equal(first?.fileSystemType, 'ext3');
  assert.equal(second?.mountPoint, '/mnt/é');
  assert.equal(second?.device, '0:50');
  assert.equal(second?.superOptions, 'ro,user_id=0');
  assert.equal(third, undefined);
});

test('the demo server: ranges and listings', () => {
  assert.deepEqual(parseRange('bytes=0-0', 10), { start: 0, end: 1 });
  assert.deepEqual(parseRange('bytes=5-', 10), { start: 5, end: 10 });
  assert.deepEqual(parseRange('bytes=-3', 10), { start: 7, end: 10 });
  assert.deepEqual(parseRange('bytes=5-99', 10), { start: 5, end: 10 });
  assert.equal(parseRange('bytes=10-', 10), 'unsatisfiable');
  assert.equal(parseRange('bytes=0-1,3-4', 10), undefined);
  assert.equal(parseRange(undefined, 10), undefined);
  const html = renderListing('/a&b/', [
    { name: 'z <x>.txt', isDirectory: false, sizeBytes: 5, mtimeMs: Date.UTC(2026, 0, 2, 3, 4) },
    { name: 'dir', isDirectory: true, sizeBytes: 0, mtimeMs: 0 },
  ]);
  assert.match(html, /<a href="dir\/">dir\/<\/a> +01-Jan-1970 00:00 +-\r\n<a href="z/);
  assert.match(html, /"z%20%3Cx%3E\.txt">z &lt;x&gt;\.txt<\/a> +02-Jan-2026 03:04 +5\r\n/);
});
