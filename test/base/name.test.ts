import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeName, encodeName, isValidName, nameProblem } from '../../src/base/name.ts';

const bytesOf = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** Bytes that are often nearly UTF-8: the interesting ones. */
const almostUtf8 = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.string({ unit: 'binary' }).map((text) => new TextEncoder().encode(text)),
  fc
    .array(
      fc.constantFrom(0x41, 0x80, 0xbf, 0xc1, 0xc3, 0xa9, 0xe0, 0xa0, 0xed, 0x9f, 0xef, 0xbb, 0xf0),
      { maxLength: 12 },
    )
    .map((values) => Uint8Array.from(values)),
);

test('every byte string survives decode and encode', () => {
  fc.assert(
    fc.property(almostUtf8, (bytes) => {
      assert.deepEqual(encodeName(decodeName(bytes)), bytes);
    }),
    { numRuns: 2000 },
  );
});

test('well-formed strings are plain UTF-8', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.deepEqual(encodeName(text), new TextEncoder().encode(text));
      assert.equal(decodeName(encodeName(text)), text);
    }),
  );
});

test('agrees with surrogateescape where Python was asked', () => {
  const cases: [Uint8Array, string][] = [
    [bytesOf(0x66, 0xfc, 0x72), 'f\udcfcr'],
    [bytesOf(0xc3, 0xa9), 'é'],
    [bytesOf(0xc3), '\udcc3'],
    [bytesOf(0xe2, 0x82), '\udce2\udc82'],
    [bytesOf(0xed, 0xa0, 0x80), '\udced\udca0\udc80'],
    [bytesOf(0xc0, 0xaf), '\udcc0\udcaf'],
    [bytesOf(0xf4, 0x90, 0x80, 0x80), '\udcf4\udc90\udc80\udc80'],
    [bytesOf(0xf0, 0x9f, 0x98, 0x80), '😀'],
    [bytesOf(0xff, 0xf0, 0x9f, 0x98, 0x80), '\udcff😀'],
    [bytesOf(0xef, 0xbb, 0xbf, 0x61), '\ufeffa'],
  ];
  for (const [bytes, text] of cases) {
    assert.equal(decodeName(bytes), text);
    assert.deepEqual(encodeName(text), bytes);
  }
});

test('reads shared memory and views at an offset', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(8), 2, 3);
  shared.set([0x61, 0xc3, 0xa9]);
  assert.equal(decodeName(shared), 'aé');
  shared.set([0x61, 0xff, 0x62]);
  assert.equal(decodeName(shared), 'a\udcffb');
  shared.set([0x61, 0x62, 0x63]);
  assert.equal(decodeName(shared), 'abc');
  assert.equal(decodeName(Buffer.from([0xff, 0x61])), '\udcffa');
});

test('half characters that stand for no byte are refused', () => {
  for (const text of ['\ud800', '\udc00', '\udc7f', '\udd00', 'a\udfff']) {
    assert.throws(() => encodeName(text), { code: 'EILSEQ' });
    assert.equal(isValidName(text), false);
  }
});

test('valid names are exactly those a directory can hold', () => {
  for (const name of [
    'a',
    '...',
    '.a',
    'é',
    '\udcff',
    'x'.repeat(255),
    'é'.repeat(127),
    '\n',
    '\\',
  ]) {
    assert.equal(nameProblem(name), undefined, name);
  }
  for (const name of ['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256), 'é'.repeat(128), '\ud800']) {
    assert.notEqual(nameProblem(name), undefined, name);
    assert.equal(isValidName(name), false);
  }
  assert.equal(isValidName('\udcc3\udca9'), false, 'a second spelling of é');
});
