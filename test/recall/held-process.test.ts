/** What has come while this process could not look is looked at before anybody is given up. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { EbbError } from '../../src/base/errors.ts';
import { questionDeadline } from '../../src/native/question-deadline.ts';
import { Patience } from '../../src/recall/namespace/patience.ts';
import { RecallEngine } from '../../src/recall/engine.ts';
import { Residency } from '../../src/tree/residency.ts';
import { by, chunk, HeldRemote, isCode, LocalFile } from './support.ts';

const patienceMs = 300;
const limits = { stallMaxMs: patienceMs, deadlineMs: patienceMs };

/** As SIGSTOP does, or a machine without a free processor. */
function holdProcess(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4 * patienceMs);
}

/** Until all timers that are due have run. */
async function twoTurns(): Promise<void> {
  await setImmediate();
  await setImmediate();
}

test('a reader gets what came while the daemon was held for longer than he may wait', async () => {
  const remote = new HeldRemote(chunk);
  using file = new LocalFile({ sizeBytes: chunk });
  const engine = new RecallEngine({ remote, limits });
  const read = engine.ensure(file, 0, 10, by(1));
  const opened = twoTurns().then(() => remote.open());
  holdProcess();
  await Promise.all([opened, read]);
  assert.equal(file.differenceTo(1, 0, chunk), -1);
  await engine.close();
});

test('a remote that brings nothing is given up', async () => {
  using file = new LocalFile({ sizeBytes: chunk });
  const engine = new RecallEngine({ remote: new HeldRemote(chunk), limits });
  await assert.rejects(engine.ensure(file, 0, 10, by(1)), isCode('EIO'));
  await engine.close();
});

test('nor is a question denied that could have been answered', async () => {
  const residency = Residency.create(chunk, chunk);
  const overdue: number[] = [];
  const waited = Promise.withResolvers<undefined>();
  const onOverdue = (id: number): void => {
    overdue.push(id);
    waited.resolve(undefined);
  };
  const file = { id: 1, key: 'held', residency };
  {
    using _deadline = questionDeadline(file, patienceMs, onOverdue);
    const looked = twoTurns().then(() => residency.markResident(0, 1));
    holdProcess();
    await looked;
    assert.deepEqual(overdue, []);
  }
  using _deadline = questionDeadline({ ...file, id: 2 }, patienceMs, onOverdue);
  await waited.promise;
  assert.deepEqual(overdue, [2]);
});

test('nor is a listing given up whose next names had come', async () => {
  const { signal: parent } = new AbortController();
  using patience = new Patience(patienceMs, parent);
  const came = twoTurns();
  holdProcess();
  await came;
  assert.equal(patience.signal.aborted, false);
  patience.renew();
  await once(patience.signal, 'abort');
  assert.equal((patience.signal.reason as EbbError).code, 'ETIMEDOUT');
});
