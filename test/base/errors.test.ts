import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { constants } from 'node:os';
import { test } from 'node:test';
import { AssertionError, assert as ebbAssert } from '../../src/base/assert.ts';
import { Errno, errnoCode, errnoCodeOf, errnoMessage, errnoName } from '../../src/base/errno.ts';
import { EbbError, ebbError, toEbbError } from '../../src/base/errors.ts';

test('the errno table agrees with the platform', () => {
  for (const [code, errno] of Object.entries(constants.errno)) {
    const known = errnoCode(code);
    assert.ok(known !== undefined, code);
    assert.equal(Errno[known], errno, code);
  }
});

test('names, numbers and messages', () => {
  assert.equal(Errno.EIO, 5);
  assert.equal(Errno.ESTALE, 116);
  assert.equal(errnoName(5), 'EIO');
  assert.equal(errnoName(-5), 'EIO');
  assert.equal(errnoName(95), 'EOPNOTSUPP');
  assert.equal(errnoName(999), 'errno 999');
  assert.equal(errnoMessage(Errno.ENOSPC), 'No space left on device');
  assert.equal(errnoMessage(999), 'Unknown error 999');
  assert.equal(errnoCode('ENOTSUP'), 'EOPNOTSUPP');
  assert.equal(errnoCode('toString'), undefined);
  assert.equal(errnoCodeOf(0), undefined);
});

test('an error carries errno, code, cause and whether to retry', () => {
  const cause = new Error('cause');
  const error = ebbError('ETIMEDOUT', 'No answer.', { cause, retryAfterMs: 1500 });
  assert.ok(error instanceof Error);
  assert.equal(error.errno, 110);
  assert.equal(error.code, 'ETIMEDOUT');
  assert.equal(error.retryable, true);
  assert.equal(error.retryAfterMs, 1500);
  assert.equal(error.cause, cause);
  assert.equal(ebbError('EIO', 'x').retryable, false);
  assert.equal(ebbError('EIO', 'x', { retryable: true }).retryable, true);
  assert.equal(ebbError('ETIMEDOUT', 'x', { retryable: false }).retryable, false);
  assert.equal('cause' in ebbError('EIO', 'x'), false);
  assert.equal(ebbError('EIO', 'x').retryAfterMs, undefined);
});

test('toEbbError knows real system errors', async () => {
  const thrown = catchError(() => readFileSync('/does/not/exist'));
  const error = toEbbError(thrown);
  assert.equal(error.code, 'ENOENT');
  assert.equal(error.cause, thrown);
  assert.match(error.message, /no such file/);
  assert.equal(toEbbError(catchError(() => readFileSync('/'))).code, 'EISDIR');
  const refused = await new Promise((resolve) => {
    connect(1, '127.0.0.1').once('error', resolve);
  });
  assert.equal(toEbbError(refused).code, 'ECONNREFUSED');
  assert.equal(toEbbError(refused).retryable, true);
});

test('toEbbError knows aborts, timeouts, wrappers and strangers', async () => {
  const own = ebbError('ESTALE', 'Moved.');
  assert.equal(toEbbError(own), own);
  assert.equal(toEbbError(AbortSignal.abort().reason).code, 'EINTR');
  assert.equal(toEbbError(AbortSignal.abort().reason).retryable, false);
  const signal = AbortSignal.timeout(1);
  await new Promise((resolve) => signal.addEventListener('abort', resolve));
  assert.equal(toEbbError(signal.reason).code, 'ETIMEDOUT');

  const lookup = Object.assign(new Error('getaddrinfo ENOTFOUND x'), { code: 'ENOTFOUND' });
  const fetchFailed = new TypeError('fetch failed', { cause: lookup });
  assert.equal(toEbbError(fetchFailed).code, 'EHOSTUNREACH');
  assert.match(toEbbError(fetchFailed).message, /fetch failed: getaddrinfo/);
  const wrapped = new Error('outer', {
    cause: ebbError('ENOSPC', 'Full.', { retryAfterMs: 7 }),
  });
  assert.equal(toEbbError(wrapped).code, 'ENOSPC');
  assert.equal(toEbbError(wrapped).retryAfterMs, 7);
  assert.equal(toEbbError(Object.assign(new Error('x'), { errno: -28 })).code, 'ENOSPC');
  assert.equal(
    toEbbError(Object.assign(new Error('x'), { code: 'ERR_X', errno: 3e9 })).code,
    'EIO',
  );
  assert.equal(toEbbError('text', 'EINVAL').code, 'EINVAL');
  assert.equal(toEbbError('text').message, 'text');
  assert.equal(toEbbError(undefined).code, 'EIO');

  const circle = new Error('circle');
  circle.cause = circle;
  assert.equal(toEbbError(circle).code, 'EIO');
});

test('assert throws for our own mistakes only', () => {
  ebbAssert(true, 'fine');
  assert.throws(() => ebbAssert(0, 'zero is not one'), AssertionError);
  assert.equal(ebbError('EIO', 'x') instanceof EbbError, true);
});

function catchError(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  assert.fail('nothing was thrown');
}
