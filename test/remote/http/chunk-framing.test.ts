/** Bodies in chunks: whatever pieces they come in, the same bytes, and nothing that is not beyond doubt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChunkFraming, FramingError } from '../../../src/remote/http/lane/chunk-framing.ts';

interface Decoded {
  readonly body: string;
  readonly isDone: boolean;
  /** What came behind the end. */
  readonly rest: string;
}

function decode(pieces: readonly string[]): Decoded {
  const framing = new ChunkFraming();
  let body = '';
  let behind = '';
  for (const piece of pieces) {
    let rest: Uint8Array = Buffer.from(piece, 'latin1');
    while (rest.length > 0 && !framing.isDone) {
      rest = rest.subarray(framing.skip(rest));
      const count = Math.min(rest.length, framing.dataBytes);
      if (count === 0) continue;
      body += Buffer.from(rest.subarray(0, count)).toString('latin1');
      framing.took(count);
      rest = rest.subarray(count);
    }
    behind += Buffer.from(rest).toString('latin1');
  }
  return { body, isDone: framing.isDone, rest: behind };
}

function cut(text: string, at: readonly number[]): string[] {
  const ends = [...new Set(at.map((one) => one % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((start, index) => text.slice(start, ends[index] ?? text.length));
}

const chunk = fc.record({
  data: fc.string({ unit: fc.constantFrom('a', '\r', '\n', '0', ';', 'ÿ'), minLength: 1 }),
  extension: fc.constantFrom('', ';name', ' ; name="value"'),
  upper: fc.boolean(),
  zeros: fc.constantFrom(0, 0, 1, 7, 100),
});
const lastSize = fc.constantFrom('0', '0', '0000');
const trailer = fc.constantFrom('', 'Server-Timing: x\r\n', 'A: b\r\nC: d\r\n');
const runs = { numRuns: Number(process.env['EBB_PROPERTY_RUNS'] ?? 300) };

test('any chunks, extensions, trailers, in any pieces: the same bytes', () => {
  fc.assert(
    fc.property(fc.array(chunk), lastSize, trailer, fc.array(fc.nat(500)), (...made) => {
      const [chunks, last, fields, at] = made;
      const framed = chunks.map(({ data, extension, upper, zeros }) => {
        const size = `${'0'.repeat(zeros)}${data.length.toString(16)}`;
        return `${upper ? size.toUpperCase() : size}${extension}\r\n${data}\r\n`;
      });
      const text = `${framed.join('')}${last}\r\n${fields}\r\nrest`;
      const body = chunks.map(({ data }) => data).join('');
      assert.deepEqual(decode(cut(text, at)), { body, isDone: true, rest: 'rest' });
      // Whatever is missing at its end: it is not complete, and no byte is wrong.
      const missing = decode(cut(text.slice(0, -'rest'.length - 1 - (at[0] ?? 0)), at));
      assert.equal(missing.isDone, false);
      assert.ok(body.startsWith(missing.body));
    }),
    runs,
  );
});

test('what is not beyond doubt is an error', () => {
  for (const text of [
    'x\r\n',
    '\r\n',
    '-1\r\n',
    '+1\r\n',
    '0x1\r\n',
    '1\nx\n0\n\n',
    ' 1\r\n',
    '1,1\r\n',
    'fffffffffffffff\r\n',
    '0fffffffffffffff\r\n',
    '1\r\nxy\r\n0\r\n\r\n',
    '1\r\nx0\r\n\r\n',
    `1;${'e'.repeat(9_000)}\r\n`,
    `0\r\n${'a: b\r\n'.repeat(200)}\r\n`,
  ]) {
    assert.throws(() => decode([text]), FramingError, text.slice(0, 40));
    assert.throws(() => decode(text.split('')), FramingError, text.slice(0, 40));
  }
});

test('any bytes: an error, or no more of them than came', () => {
  const bytes = fc.string({ unit: fc.constantFrom('0', '1', 'a', '\r', '\n', ';', 'z') });
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(100)), (text, at) => {
      try {
        const { body, rest } = decode(cut(text, at));
        assert.ok(body.length + rest.length <= text.length);
      } catch (error) {
        assert.ok(error instanceof FramingError);
      }
    }),
    runs,
  );
});
