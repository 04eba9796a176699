/** Files that a tree first saw within two seconds of their publication, whose versions are not those of later. */
import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { StubChange } from '../../src/base/stub-facts.ts';
import { openHttpRemote } from '../../src/remote/http/http-remote.ts';
import { answer, scriptedOrigin } from '../remote/http/scripted-origin.ts';
import { Scene } from './populate-scene.ts';

const names = ['edited', 'deleted', 'renamed', 'again', 'other'];
const seconds = Date.UTC(2026, 0, 1) / 1_000;
const date = (at: number): string => new Date(at * 1_000).toUTCString();

for (const hasTags of [true, false]) {
  const how = hasTags ? 'tags of seconds' : 'no tags';
  test(`${how}: what was edited or deleted while it was young is no conflict, and does not come back`, async () => {
    let changedAt = seconds;
    let now = seconds;
    await using origin = await scriptedOrigin(({ path }) => {
      const fields = { Date: date(now) };
      if (path === '/') {
        const list = names.map((name) => {
          const at = name === 'other' ? changedAt : seconds;
          return { name, type: 'file', mtime: date(at), size: 4 };
        });
        return answer(200, { ...fields, 'Content-Type': 'application/json' }, JSON.stringify(list));
      }
      const at = path === '/other' ? changedAt : seconds;
      const ETag = hasTags ? `"${at.toString(16)}-4"` : undefined;
      return answer(200, { ...fields, ETag, 'Last-Modified': date(at), 'Content-Length': 4 }, '');
    });
    const remote = await openHttpRemote({ url: origin.url });
    await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
    using scene = new Scene('xfs', remote);
    assert.equal((await scene.populate()).failed, 0);
    const young = new Map(names.map((name) => [name, scene.record(name)?.version]));

    for (const name of ['edited', 'other']) {
      const file = scene.store.get(scene.record(name)?.id ?? 0);
      assert.ok(file);
      await scene.store.setChange(file, StubChange.discarding);
      writeFileSync(scene.path(name), 'mine');
      await scene.store.setChange(file, StubChange.dirty);
    }
    const deleted = scene.record('deleted')?.id ?? 0;
    rmSync(scene.path('deleted'));
    await scene.store.forget([deleted]);
    renameSync(scene.path('renamed'), scene.path('mine now'));

    now = seconds + 60;
    for (const _again of [1, 2]) {
      const { reports } = await scene.refresh();
      assert.deepEqual(reports, []);
      assert.deepEqual(scene.names(), ['again', 'edited', 'mine now', 'other', 'renamed']);
      assert.equal(scene.record('edited')?.lost, false);
    }
    // What nobody changed here may be another content of the same second: it is asked for again.
    assert.notEqual(scene.record('again')?.version, young.get('again'));

    changedAt = seconds + 60;
    now = seconds + 120;
    const { reports } = await scene.refresh();
    assert.deepEqual(
      reports.map(({ kind, key }) => `${kind} ${key}`),
      ['conflict other'],
    );
    assert.equal(readFileSync(scene.path('other'), 'utf8'), 'mine');
  });
}
