/** Names change only when they are still what was meant, whatever users do in between. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { placeNew, placeOver, takeAway } from '../../src/attach/place.ts';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { temporaryDirectory } from '../support/temporary.ts';

async function scene() {
  const directory = await temporaryDirectory('place');
  const [users, staging] = [`${directory.path}/users`, `${directory.path}/staging`];
  mkdirSync(users);
  mkdirSync(staging);
  const flags = OpenFlag.rdonly | OpenFlag.directory;
  const [target, staged] = [openFd(users, flags), openFd(staging, flags)];
  return {
    users,
    staging,
    target: { fd: target.fd, name: 'name' },
    staged: { fd: staged.fd, name: 's' },
    contents: () => [readAll(users), readAll(staging)],
    async [Symbol.asyncDispose]() {
      target.close();
      staged.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

function readAll(directory: string): Record<string, string> {
  const names = readdirSync(directory).toSorted();
  return Object.fromEntries(
    names.map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8')]),
  );
}

test('a new name: only a free one', async () => {
  await using at = await scene();
  writeFileSync(`${at.staging}/s`, 'new');
  writeFileSync(`${at.users}/name`, "a user's");
  assert.equal(placeNew(at.staged, at.target), false);
  assert.deepEqual(at.contents(), [{ name: "a user's" }, { s: 'new' }]);
  rmSync(`${at.users}/name`);
  assert.equal(placeNew(at.staged, at.target), true);
  assert.deepEqual(at.contents(), [{ name: 'new' }, {}]);
});

test('a new version: only over what was meant', async () => {
  await using at = await scene();
  writeFileSync(`${at.staging}/s`, 'new');
  assert.equal(
    placeOver(at.staged, at.target, () => true),
    false,
    'deleted meanwhile',
  );
  writeFileSync(`${at.users}/name`, 'old');
  assert.equal(
    placeOver(at.staged, at.target, () => false),
    false,
  );
  assert.deepEqual(at.contents(), [{ name: 'old' }, { s: 'new' }]);
  assert.equal(
    placeOver(at.staged, at.target, () => true),
    true,
  );
  assert.deepEqual(at.contents(), [{ name: 'new' }, { s: 'old' }]);
});

test('a name that went: only what was meant', async () => {
  await using at = await scene();
  assert.equal(
    takeAway(at.target, at.staged, () => true),
    false,
    'deleted meanwhile',
  );
  writeFileSync(`${at.users}/name`, "a user's");
  assert.equal(
    takeAway(at.target, at.staged, () => false),
    false,
  );
  assert.deepEqual(at.contents(), [{ name: "a user's" }, {}]);
  assert.equal(
    takeAway(at.target, at.staged, () => true),
    true,
  );
  assert.deepEqual(at.contents(), [{}, { s: "a user's" }]);
});

test('who is quicker than two renames loses nothing', async () => {
  await using at = await scene();
  writeFileSync(`${at.users}/name`, 'one');
  const quick = (): boolean => {
    writeFileSync(`${at.users}/name`, 'two');
    return false;
  };
  assert.equal(takeAway(at.target, at.staged, quick), false);
  const [users, staging] = at.contents();
  assert.deepEqual(Object.values(users ?? {}).toSorted(), ['one', 'two']);
  assert.deepEqual(staging, {});
  for (const name of readdirSync(at.users)) rmSync(`${at.users}/${name}`);
  writeFileSync(`${at.users}/name`, "a user's");
  writeFileSync(`${at.staging}/s`, 'new');
  const moves = (): boolean => {
    renameSync(`${at.users}/name`, `${at.users}/moved`);
    return false;
  };
  assert.equal(placeOver(at.staged, at.target, moves), false);
  assert.deepEqual(at.contents(), [{ moved: 'new', name: "a user's" }, {}]);
});

test('what a user put there stays when it cannot be put back, and that is no failure of one name', async () => {
  for (const act of [placeOver, takeAway]) {
    await using at = await scene();
    writeFileSync(`${at.users}/name`, "a user's");
    if (act === placeOver) writeFileSync(`${at.staging}/s`, 'new');
    const removed = (): boolean => {
      rmSync(at.users, { recursive: true });
      return false;
    };
    const [from, to] = act === placeOver ? [at.staged, at.target] : [at.target, at.staged];
    assert.throws(() => act(from, to, removed), { code: 'EIO' });
    assert.equal(readFileSync(`${at.staging}/s`, 'utf8'), "a user's");
  }
});
