/** SipHash-2-4 against OpenSSL's (`openssl mac -macopt hexkey:00..0f -macopt size:8 SIPHASH`). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { SipHasher } from '../../src/base/siphash.ts';

const key = Uint8Array.from({ length: 16 }, (_, index) => index);

test('siphash: known values, all 53 bits and the whole key count', () => {
  const hasher = new SipHasher(key);
  const known: readonly (readonly [value: number, low32: number])[] = [
    [0, 0xa07681a7],
    [1, 0x85e6d1f6],
    [65_536, 0xdd692810],
    [0xffff_ffff, 0xaf658465],
    [0x1_0000_0000, 0x9655b9cb],
    [Number.MAX_SAFE_INTEGER, 0xe35b0ceb],
  ];
  for (const [value, low32] of known) assert.equal(hasher.low32(value), low32, `${value}`);
  for (let at = 0; at < 16; at += 1) {
    const other = key.slice();
    other[at] = 0x80;
    assert.notEqual(new SipHasher(other).low32(1), hasher.low32(1), `byte ${at} of the key`);
  }
});

test('siphash: random keys and numbers, as OpenSSL computes them', () => {
  const keys = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(keys, fc.maxSafeNat(), (random, value) => {
      const input = new Uint8Array(8);
      new DataView(input.buffer).setBigUint64(0, BigInt(value), true);
      const hexKey = Buffer.from(random).toString('hex');
      const options = ['-macopt', `hexkey:${hexKey}`, '-macopt', 'size:8'];
      const { stdout } = spawnSync('openssl', ['mac', ...options, 'SIPHASH'], { input });
      const digest = Buffer.from(stdout.toString().trim(), 'hex');
      assert.equal(digest.length, 8);
      assert.equal(new SipHasher(random).low32(value), digest.readUInt32LE(0));
    }),
    { numRuns: 20 },
  );
});
