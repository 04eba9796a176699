/** What main does with changes that it cannot record. The journal is an empty file. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { ChangeRecords } from '../../src/native/change-records.ts';
import type { Changed } from '../../src/native/messages.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';
import { createMemoryFile } from '../../src/sys/memory-file.ts';

const handleOf = (file: number): Uint8Array => Uint8Array.of(file);
const changeOf = (file: number): Changed => ({
  kind: 'changed',
  handle: handleOf(file),
  modified: true,
  closedForWriting: false,
  deleted: false,
  atBytes: undefined,
});

const files = {
  get: (id: number) => ({ handle: handleOf(id) }) as unknown as StubFile,
};

async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

test('a file counts as being changed from when it is told of until that is recorded', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    using journal = createMemoryFile('changes');
    let answer: () => Promise<boolean> | undefined = () => Promise.resolve(true);
    const records = new ChangeRecords(journal.fd, files, () => answer());
    const isUnrecorded = (file: number): boolean => records.isUnrecorded(file);

    records.take(changeOf(1));
    assert.deepEqual([isUnrecorded(1), isUnrecorded(2)], [true, false]);
    await turns();
    assert.equal(isUnrecorded(1), false);

    answer = () => Promise.resolve(false);
    records.take(changeOf(1));
    answer = () => {
      throw new Error('the disk is broken');
    };
    assert.throws(() => records.take(changeOf(2)), /broken/);
    await turns();
    for (let again = 0; again < 3; again += 1) {
      mock.timers.tick(2_000);
      await turns();
      assert.deepEqual([isUnrecorded(1), isUnrecorded(2), isUnrecorded(3)], [true, true, false]);
    }
    // What is to be recorded by now is known without anything being recorded.
    answer = () => undefined;
    mock.timers.tick(2_000);
    await turns();
    assert.deepEqual([isUnrecorded(1), isUnrecorded(2)], [false, false]);
    await records.settled();
  } finally {
    mock.timers.reset();
  }
});

test('of more files than can be remembered, every file counts as being changed', async () => {
  using journal = createMemoryFile('changes');
  const records = new ChangeRecords(journal.fd, files, () => Promise.resolve(false), 2);
  for (const file of [1, 2]) records.take(changeOf(file));
  await turns();
  assert.equal(records.isUnrecorded(9), false);
  records.take(changeOf(3));
  await turns();
  assert.equal(records.isUnrecorded(9), true);
  await records.settled();
});
