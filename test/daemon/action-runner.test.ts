/** What the parts of a request add up to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refusal, runAction } from '../../src/daemon/control/action-runner.ts';
import type { FileWork } from '../../src/daemon/control/action-runner.ts';
import type { ActionResult } from '../../src/daemon/api.ts';

async function resultOf(
  sizes: readonly number[],
  work: (file: FileWork) => Refusal | undefined,
): Promise<ActionResult> {
  const files = sizes.map((sizeBytes, at) => ({ path: `${at}`, sizeBytes }));
  const { signal } = new AbortController();
  const running = runAction(files, {
    concurrencyMax: 2,
    signal,
    work: async (file) => {
      file.doneBytes = file.sizeBytes;
      return work(file);
    },
  });
  for (;;) {
    const step = await running.next();
    if (step.done === true) return step.value;
  }
}

test('bytes that were here before are not counted as brought, and empty files not as here', async () => {
  const here = [10, 4, 0, 0];
  const result = await resultOf([10, 10, 10, 0], (file) => {
    file.broughtBytes = file.sizeBytes - (here[Number(file.path)] ?? 0);
    return undefined;
  });
  assert.deepEqual(result, { ok: 4, failed: 0, refused: 0, bytes: 16, alreadyHere: 1 });
  const others = await resultOf([10, 10], () => undefined);
  assert.deepEqual(others, { ok: 2, failed: 0, refused: 0, bytes: 20 });
});

test('what a refresh has found counts also where something of it was refused', async () => {
  const changes = { new: 1, updated: 2, gone: 3, kept: 4, leftOut: 5, unsure: 6 };
  const result = await resultOf([0, 0], (file) => {
    file.changes = changes;
    return file.path === '0' ? new Refusal('EEXIST', 'changed here') : undefined;
  });
  const twice = { new: 2, updated: 4, gone: 6, kept: 8, leftOut: 10, unsure: 12 };
  assert.deepEqual(result, { ok: 1, failed: 0, refused: 1, bytes: 0, changes: twice });
});
