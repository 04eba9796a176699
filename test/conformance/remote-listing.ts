/** Conformance of `list` and `stat`. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { decodeName } from '../../src/base/name.ts';
import { joinKey } from '../../src/remote/key.ts';
import {
  listAll,
  noSignal,
  readAll,
  rejectsWith,
  rejectsWithReason,
  sortedNames,
} from './collect.ts';
import type { ConformanceOptions, MakeFixture, RemoteFixture } from './remote.ts';

const hostileNames = [
  'plain',
  'with space',
  ' leading and trailing ',
  'percent%20encoded',
  '%',
  '100%',
  'question?mark',
  'hash#tag',
  'semi;colon',
  'amp&ersand',
  '&amp;',
  '<b>bold<b>',
  '"quoted"',
  "apo'strophe",
  'back\\slash',
  'colon:name',
  'http:',
  'http:%2f%2fexample.com%2f',
  'a+b=c',
  'new\nline',
  'tab\tname',
  'umlaut äöü',
  'decomposed a\u0308',
  '日本語',
  'emoji 😀',
  'right-to-left \u202e txt',
  'n'.repeat(255),
  'ä'.repeat(127),
  '~tilde',
  '*',
  '[brackets]',
  '{braces}',
  '$dollar`tick',
  '-dash',
  'index.htm',
  '\x01control\x7f',
];

export function listingConformance(makeFixture: MakeFixture, options: ConformanceOptions): void {
  void describe('list and stat', () => {
    let fixture: RemoteFixture;
    before(async () => {
      fixture = await makeFixture();
    });
    after(async () => fixture[Symbol.asyncDispose]());

    void test('an empty root', async () => {
      assert.deepEqual(sortedNames(await listAll(fixture.remote, '')), []);
      assert.equal((await fixture.remote.stat('', { signal: noSignal })).kind, 'directory');
    });

    void test('nested directories; each listing shows one level', async () => {
      await fixture.put('nested/one/deep', Buffer.from('1'));
      await fixture.put('nested/two', Buffer.from('22'));
      const listing = await listAll(fixture.remote, 'nested');
      assert.deepEqual(sortedNames(listing), ['one', 'two']);
      assert.equal(listing.objects.get('one')?.kind, 'directory');
      assert.equal(listing.objects.get('two')?.kind, 'file');
      assert.deepEqual(sortedNames(await listAll(fixture.remote, 'nested/one')), ['deep']);
    });

    void test('an empty directory', async (context) => {
      if (!fixture.features.emptyDirectories) return context.skip('the origin has none');
      await fixture.putDirectory('empty');
      assert.deepEqual(sortedNames(await listAll(fixture.remote, 'empty')), []);
      assert.equal((await fixture.remote.stat('empty', { signal: noSignal })).kind, 'directory');
    });

    void test('an empty file is listed, and has size 0', async () => {
      await fixture.put('void/nothing', Buffer.alloc(0));
      const listed = (await listAll(fixture.remote, 'void')).objects.get('nothing');
      assert.equal(listed?.kind, 'file');
      if (fixture.features.exactListings) assert.equal(listed?.sizeBytes, 0);
      const attributes = await fixture.remote.stat('void/nothing', { signal: noSignal });
      assert.deepEqual([attributes.kind, attributes.sizeBytes], ['file', 0]);
    });

    void test('hostile names are listed as they are, and can be read', async () => {
      const { dotFiles } = fixture.features;
      const names = hostileNames.filter((name) => dotFiles || !name.startsWith('.'));
      if (fixture.features.dotFiles) names.push('.hidden', '..two dots', '...');
      if (fixture.features.arbitraryNames) {
        names.push(
          decodeName(Uint8Array.of(0x66, 0xff, 0xfe, 0x80)),
          decodeName(Uint8Array.of(0xc3)),
        );
      }
      for (const name of names)
        await fixture.put(joinKey('hostile', name), Buffer.from(`is ${name}`));
      await fixture.put('hostile/d ir?#%/inner', Buffer.from('x'));
      const listing = await listAll(fixture.remote, 'hostile');
      assert.deepEqual(sortedNames(listing), [...names, 'd ir?#%'].toSorted());
      assert.deepEqual(listing.skipped, []);
      for (const name of names) {
        const { bytes } = await readAll(fixture.remote, joinKey('hostile', name));
        assert.deepEqual(bytes, Buffer.from(`is ${name}`), JSON.stringify(name));
      }
      assert.deepEqual(sortedNames(await listAll(fixture.remote, 'hostile/d ir?#%')), ['inner']);
    });

    void test('thousands of entries, none twice, none missing', async () => {
      const count = options.manyEntries ?? 3000;
      const names = Array.from({ length: count }, (_, index) => `entry-${index}`);
      for (const name of names) await fixture.put(joinKey('many', name), Buffer.from('m'));
      assert.deepEqual(sortedNames(await listAll(fixture.remote, 'many')), names.toSorted());
    });

    void test('attributes: size, mtime, mode', async () => {
      const mtime = { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
      await fixture.put('facts/file', Buffer.from('twelve bytes'), { mode: 0o640, mtime });
      const listed = (await listAll(fixture.remote, 'facts')).objects.get('file');
      const attributes = await fixture.remote.stat('facts/file', { signal: noSignal });
      assert.equal(attributes.sizeBytes, 12);
      assert.ok(attributes.version !== undefined && attributes.version !== '');
      assert.equal(attributes.mtime?.seconds, mtime.seconds);
      if (fixture.features.nanosecondMtime) assert.deepEqual(attributes.mtime, mtime);
      if (fixture.features.modes) assert.equal(attributes.mode, 0o640);
      if (fixture.features.exactListings) {
        const { name, ...rest } = listed ?? { name: undefined };
        assert.equal(name, 'file');
        assert.deepEqual(rest, attributes);
      }
      if (listed?.sizeBytes !== undefined) assert.equal(listed.sizeBytes, 12, 'known means exact');
      if (listed?.mtime !== undefined) assert.deepEqual(listed.mtime, attributes.mtime);
      if (listed?.version !== undefined) assert.equal(listed.version, attributes.version);
    });

    void test('times before 1970 and far ahead', async (context) => {
      if (!fixture.features.nanosecondMtime)
        return context.skip('HTTP dates start in 1970 for most');
      for (const seconds of [-1, -86_400, 0, 4_102_444_800]) {
        const mtime = { seconds, nanoseconds: 250_000_000 };
        await fixture.put('facts/when', Buffer.from('w'), { mtime });
        assert.deepEqual(
          (await fixture.remote.stat('facts/when', { signal: noSignal })).mtime,
          mtime,
        );
      }
    });

    void test('equal version means the file was not touched; a new file is a new version', async () => {
      await fixture.put('facts/version', Buffer.from('one'));
      const first = await fixture.remote.stat('facts/version', { signal: noSignal });
      const again = await fixture.remote.stat('facts/version', { signal: noSignal });
      assert.equal(again.version, first.version);
      await fixture.put('facts/version', Buffer.from('second'));
      const second = await fixture.remote.stat('facts/version', { signal: noSignal });
      assert.notEqual(second.version, first.version);
      if (fixture.features.exactVersions) {
        await fixture.put('facts/version', Buffer.from('same s'));
        const third = await fixture.remote.stat('facts/version', { signal: noSignal });
        assert.notEqual(third.version, second.version);
      }
    });

    void test('symlinks are objects: raw target, not followed', async (context) => {
      if (!fixture.features.symlinks || fixture.putSymlink === undefined) {
        return context.skip('the origin has no symlinks');
      }
      await fixture.put('links/file', Buffer.from('behind'));
      await fixture.putDirectory('links/directory');
      const targets = { relative: 'file', absolute: '/etc', dangling: 'no/where', up: '../../..' };
      for (const [name, target] of Object.entries(targets)) {
        await fixture.putSymlink(`links/${name}`, target);
      }
      await fixture.putSymlink('links/to-directory', 'directory');
      const listing = await listAll(fixture.remote, 'links');
      for (const [name, target] of Object.entries(targets)) {
        const listed = listing.objects.get(name);
        assert.deepEqual([listed?.kind, listed?.target], ['symlink', target]);
        const attributes = await fixture.remote.stat(`links/${name}`, { signal: noSignal });
        assert.deepEqual([attributes.kind, attributes.target], ['symlink', target]);
      }
      await assert.rejects(readAll(fixture.remote, 'links/relative'));
      await rejectsWith(listAll(fixture.remote, 'links/to-directory'), 'ENOTDIR');
      await rejectsWith(listAll(fixture.remote, 'links/absolute'), 'ENOTDIR');
      await rejectsWith(
        fixture.remote.stat('links/absolute/passwd', { signal: noSignal }),
        'ENOENT',
      );
      await rejectsWith(readAll(fixture.remote, 'links/absolute/passwd'), 'ENOENT');
    });

    void test('names of a hard link say so, all alike, as long as there are several', async (context) => {
      if (fixture.putLink === undefined) return context.skip('the origin shows no hard links');
      await fixture.put('shared/alone', Buffer.from('one'));
      await fixture.put('shared/first', Buffer.from('several'));
      await fixture.putLink('shared/deep/second', 'shared/first');
      const of = async (key: string) => await fixture.remote.stat(key, { signal: noSignal });
      const [first, second] = [await of('shared/first'), await of('shared/deep/second')];
      assert.ok(first.link !== undefined && first.link !== '');
      assert.deepEqual([second.link, second.version], [first.link, first.version]);
      const listed = (await listAll(fixture.remote, 'shared')).objects;
      assert.equal(listed.get('first')?.link, first.link);
      assert.equal(listed.get('alone')?.link, undefined);
      await fixture.remove('shared/deep/second');
      assert.equal((await of('shared/first')).link, undefined);
    });

    void test('what is not there is ENOENT; a file is no directory', async () => {
      await fixture.put('present', Buffer.from('p'));
      const signal = noSignal;
      await rejectsWith(fixture.remote.stat('absent', { signal }), 'ENOENT');
      await rejectsWith(fixture.remote.stat('absent/below', { signal }), 'ENOENT');
      await rejectsWith(listAll(fixture.remote, 'absent'), 'ENOENT');
      await rejectsWith(readAll(fixture.remote, 'absent'), 'ENOENT');
      await rejectsWith(listAll(fixture.remote, 'present'), 'ENOTDIR', 'ENOENT');
      await rejectsWith(fixture.remote.stat('present/below', { signal }), 'ENOENT');
    });

    void test('removed names are gone from the next listing', async () => {
      await fixture.put('going/one', Buffer.from('1'));
      await fixture.put('going/two', Buffer.from('2'));
      await listAll(fixture.remote, 'going');
      await fixture.remove('going/one');
      assert.deepEqual(sortedNames(await listAll(fixture.remote, 'going')), ['two']);
    });

    void test('keys that are none are refused', async () => {
      for (const key of ['/', '/a', 'a/', 'a//b', '.', '..', 'a/../b', 'nul\0', 'x'.repeat(256)]) {
        await rejectsWith(fixture.remote.stat(key, { signal: noSignal }), 'EINVAL');
        await rejectsWith(readAll(fixture.remote, key), 'EINVAL');
        await rejectsWith(listAll(fixture.remote, key), 'EINVAL');
      }
    });

    void test('an aborted call rejects with the reason', async () => {
      const reason = new Error('enough');
      const aborted = AbortSignal.abort(reason);
      await rejectsWithReason(listAll(fixture.remote, '', aborted), reason);
      await rejectsWithReason(fixture.remote.stat('present', { signal: aborted }), reason);
      const controller = new AbortController();
      const listing = listAll(fixture.remote, 'many', controller.signal);
      controller.abort(reason);
      await rejectsWithReason(listing, reason);
    });

    void test('a listing may be left half-way', async () => {
      for await (const batch of fixture.remote.list('many', { signal: noSignal })) {
        assert.ok(batch.objects.length > 0);
        break;
      }
      assert.ok((await listAll(fixture.remote, '')).objects.size > 0);
    });
  });
}
