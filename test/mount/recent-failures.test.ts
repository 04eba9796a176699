/** Which READs are answered from the failure of one before, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { RecentFailures, failureRestMs, slowFailureMs } from '../../src/mount/recent-failures.ts';

const error = ebbError('EIO', 'too late');
const range = { offsetBytes: 4096, sizeBytes: 8192 };

test('what took long and failed is not waited for again by the READs within it, for a moment', () => {
  const failures = new RecentFailures();
  const nowMs = 100 + slowFailureMs;
  failures.add(7, range, error, { startedAtMs: 100, nowMs });
  assert.equal(failures.find(7, range, nowMs), error);
  assert.equal(failures.find(7, { offsetBytes: 8192, sizeBytes: 4096 }, nowMs + 10), error);
  assert.equal(failures.find(7, { offsetBytes: 0, sizeBytes: 8192 }, nowMs), undefined);
  assert.equal(failures.find(7, { offsetBytes: 8192, sizeBytes: 4097 }, nowMs), undefined);
  assert.equal(failures.find(8, range, nowMs), undefined);
  assert.equal(failures.find(7, range, nowMs + failureRestMs), undefined, 'tried again');
  assert.equal(failures.find(7, range, nowMs), undefined, 'forgotten');
});

test('what failed at once is tried again at once', () => {
  const failures = new RecentFailures();
  failures.add(7, range, error, { startedAtMs: 100, nowMs: 99 + slowFailureMs });
  assert.equal(failures.find(7, range, 99 + slowFailureMs), undefined);
});
