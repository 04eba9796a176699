/** The daemon's options: defaults, refusals with the option's name, and what identifies a remote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EbbError } from '../../src/base/errors.ts';
import {
  defaultCacheDirectory,
  optionDefaults,
  parseOptions,
  remoteIdentity,
} from '../../src/daemon/options.ts';

const least = { remote: 'http://h/', mountPoint: '/mnt' };

function refusal(value: unknown): EbbError {
  try {
    parseOptions(typeof value === 'string' ? value : JSON.stringify(value));
  } catch (error) {
    return error as EbbError;
  }
  throw new Error(`accepted: ${JSON.stringify(value)}`);
}

test('everything but remote and mount point has a default', () => {
  const options = parseOptions(JSON.stringify(least));
  assert.equal(options.ttlMs, optionDefaults.ttlMs);
  assert.equal(options.passthrough, true);
  assert.equal(options.cacheDirectory, defaultCacheDirectory('http://h/'));
  assert.equal(options.cacheSizeBytes, undefined);
  assert.equal(parseOptions(JSON.stringify({ ...least, ttlMs: 0 })).ttlMs, 0);
});

test('what is wrong is refused with the name of the option', () => {
  assert.match(refusal('').message, /without its options/);
  assert.match(refusal({ mountPoint: '/m' }).message, /option remote/);
  assert.match(refusal({ ...least, mountPoint: 'relative' }).message, /mountPoint.*absolute/);
  assert.match(refusal({ ...least, ttlMs: -1 }).message, /option ttlMs/);
  assert.match(refusal({ ...least, ttlMs: 1.5 }).message, /option ttlMs/);
  assert.match(refusal({ ...least, cacheSizeBytes: 0 }).message, /option cacheSizeBytes/);
  assert.match(refusal({ ...least, fileMode: 0o10000 }).message, /option fileMode/);
  assert.match(refusal({ ...least, headers: { a: 5 } }).message, /option headers\.a/);
  assert.match(refusal({ ...least, unheardOf: 1 }).message, /unheardOf/);
  assert.equal(refusal({ ...least, ttlMs: 'x' }).code, 'EINVAL');
});

test('credentials, slashes at the end and fragments do not make another remote', () => {
  const same = ['http://h/a', 'http://h/a/', 'http://u:p@h/a//', 'HTTP://H/a#x', 'http://h:80/a'];
  for (const remote of same) assert.equal(remoteIdentity(remote), 'http://h/a', remote);
  assert.notEqual(remoteIdentity('http://h/a?b=1'), 'http://h/a');
  assert.equal(remoteIdentity('/data/x/'), '/data/x');
  assert.equal(remoteIdentity('file:///data/x'), '/data/x');
  assert.equal(defaultCacheDirectory('http://u:p@h/a'), defaultCacheDirectory('http://h/a/'));
  assert.notEqual(defaultCacheDirectory('http://h/a'), defaultCacheDirectory('http://h/b'));
});

test('root caches in /var/cache, others at home', () => {
  assert.match(defaultCacheDirectory('http://h/', 0), /^\/var\/cache\/ebb\/[0-9a-f]{16}$/);
  assert.doesNotMatch(defaultCacheDirectory('http://h/', 1000), /^\/var/);
});
