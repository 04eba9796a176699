/** Handle tokens: what was sealed comes back, and nothing else is ever believed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatToken, parseToken } from '../../src/base/handle-token.ts';
import { parseRange } from '../../src/daemon/control/handle-endpoints.ts';
import { TokenDesk } from '../../src/daemon/handles/token-desk.ts';
import { TokenSeal } from '../../src/daemon/handles/token.ts';

/** EBB_FORGED_TOKENS=10000000 for the full length. */
const forgedCount = Number(process.env['EBB_FORGED_TOKENS'] ?? 100_000);
const treeId = '00000000-0000-4000-8000-000000000001';

function seal(tree = treeId, key = new Uint8Array(32).fill(7)): TokenSeal {
  return new TokenSeal(tree, key);
}

class Settings {
  readonly #values = new Map<string, string>();

  setting(name: string): string | undefined {
    return this.#values.get(name);
  }

  setSetting(name: string, value: string): void {
    this.#values.set(name, value);
  }
}

test('what a token was made of comes back', () => {
  const ids = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  const revisions = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(ids, revisions, (id, revision) => {
      const token = seal().seal({ id, revision });
      assert.match(token, /^ebb1\.[0-9a-f]{16}\.[\w-]{60}$/);
      assert.deepEqual(seal().unseal(token), { id, revision });
    }),
  );
});

test(`${forgedCount} forged tokens: none is believed`, () => {
  const ours = seal();
  const others = [
    seal('00000000-0000-4000-8000-000000000002'),
    seal(treeId, new Uint8Array(32).fill(8)),
    seal('00000000-0000-4000-8000-000000000002', new Uint8Array(32).fill(8)),
  ];
  const tokensOf = (one: TokenSeal): string[] =>
    Array.from({ length: 1_000 }, (_, index) => one.seal({ id: index + 1, revision: 0 }));
  const real = tokensOf(ours);
  const foreign = others.flatMap(tokensOf);
  let believed = 0;
  for (let index = 0; index < forgedCount; index += 1) {
    const genuine = pick(real, index);
    const forged = forge(genuine, pick(foreign, index), index);
    if (forged !== genuine && ours.unseal(forged) !== undefined) believed += 1;
  }
  assert.equal(believed, 0);
});

function pick(tokens: readonly string[], index: number): string {
  return tokens[index % tokens.length] ?? '';
}

function forge(real: string, foreign: string, index: number): string {
  const { tag, body } = parseToken(real) ?? { tag: '', body: '' };
  const bytes = Buffer.from(body, 'base64url');
  const formatted = (changed: Buffer): string =>
    formatToken({ tag, body: changed.toString('base64url') });
  switch (index % 8) {
    case 0:
      return formatted(randomBytes(45));
    case 1:
      // The right facts, any seal.
      return formatted(Buffer.concat([bytes.subarray(0, 13), randomBytes(32)]));
    case 2: {
      const bit = Math.floor(Math.random() * bytes.length * 8);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      return formatted(bytes);
    }
    case 3:
      return real.slice(0, Math.floor(Math.random() * real.length));
    case 4:
      // Of another tree or from before another secret, under our tag.
      return formatToken({ tag, body: parseToken(foreign)?.body ?? '' });
    case 5:
      return foreign;
    case 6: {
      // One character of the text, in every position.
      const at = Math.floor(index / 8) % real.length;
      return real.slice(0, at) + (real[at] === 'A' ? 'B' : 'A') + real.slice(at + 1);
    }
    default: {
      const padded = [`${real}A`, ` ${real}`, `${real}\n`, real.toUpperCase(), `${real}=`];
      return pick(padded, index);
    }
  }
}

test('a revoked token stays refused, for that file alone; refusals are counted by reason', () => {
  const settings = new Settings();
  const desk = new TokenDesk(seal(), settings);
  const [first, second, other] = [desk.issue(5), desk.issue(5), desk.issue(6)];
  assert.equal(first, second);
  assert.equal(desk.check(first), 5);
  desk.revoke(first);
  assert.throws(() => desk.check(second), { code: 'EACCES', message: /revoked/ });
  assert.throws(() => desk.revoke(second), { code: 'EACCES' });
  assert.equal(desk.check(other), 6);
  const fresh = desk.issue(5);
  assert.equal(desk.check(fresh), 5);
  const restarted = new TokenDesk(seal(), settings);
  assert.throws(() => restarted.check(first), { code: 'EACCES' });
  assert.equal(restarted.check(fresh), 5);
  assert.throws(() => restarted.check('ebb1.nonsense'), { code: 'EACCES' });
  assert.equal(restarted.stale('gone').code, 'ESTALE');
  assert.deepEqual(desk.refused, { invalid: 0, revoked: 2, stale: 0 });
  assert.deepEqual(restarted.refused, { invalid: 1, revoked: 1, stale: 1 });
});

test('ranges as RFC 9110 has them; others are refused', () => {
  const cases: readonly (readonly [header: string | undefined, expected: unknown])[] = [
    [undefined, undefined],
    ['bytes=0-0', { offsetBytes: 0, lengthBytes: 1 }],
    ['bytes=90-', { offsetBytes: 90, lengthBytes: 10 }],
    ['bytes=90-1000', { offsetBytes: 90, lengthBytes: 10 }],
    ['bytes=-7', { offsetBytes: 93, lengthBytes: 7 }],
    ['bytes=-700', { offsetBytes: 0, lengthBytes: 100 }],
  ];
  for (const [header, expected] of cases) assert.deepEqual(parseRange(header, 100), expected);
  for (const header of ['bytes=100-', 'bytes=-0', 'bytes=9-8', 'bytes=100-200']) {
    assert.throws(() => parseRange(header, 100), { code: 'ERANGE' }, header);
  }
  for (const header of ['bytes=-', 'bytes=1-2,4-5', 'lines=1-2', 'bytes=a-b', 'bytes 1-2', '']) {
    assert.throws(() => parseRange(header, 100), { code: 'EINVAL' }, header);
  }
  assert.throws(() => parseRange('bytes=0-', 0), { code: 'ERANGE' });
});
