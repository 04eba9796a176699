/** What a server sends, however it is cut into pieces. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameDecoder } from '../../src/image/broker/frames.ts';
import { FrameType, framePayloadMaxBytes, mapExtentsMax } from '../../src/image/messages.ts';

function encoded(type: number, payload: Uint8Array): Uint8Array {
  return Buffer.concat([new Uint8Array(Uint32Array.of(type, payload.length).buffer), payload]);
}

test('frames are the same in whatever pieces they come', () => {
  const frame = fc.record({
    type: fc.constantFrom(FrameType.opened, FrameType.map, FrameType.tree),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat(200_000).map((size) => new Uint8Array(size).fill(size)),
    ),
  });
  fc.assert(
    fc.property(fc.array(frame), fc.array(fc.integer({ min: 1, max: 70_000 })), (frames, sizes) => {
      const bytes = Buffer.concat(frames.map(({ type, payload }) => encoded(type, payload)));
      const decoder = new FrameDecoder();
      const found = [];
      // One buffer for all pieces, as a socket may have it.
      const piece = Buffer.alloc(70_000);
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const size = sizes[turn % Math.max(1, sizes.length)] ?? 100_000;
        const part = bytes.subarray(at, at + Math.min(size, piece.length));
        part.copy(piece);
        found.push(...decoder.push(piece.subarray(0, part.length)));
        at += part.length;
      }
      assert.deepEqual(
        found,
        frames.map((each) => ({ ...each })),
      );
    }),
  );
});

test('a frame that is longer than what its type has to say is nonsense at once', () => {
  const mebibyte = 1024 * 1024;
  const longest: readonly (readonly [type: number, payloadBytes: number])[] = [
    [FrameType.opened, mebibyte],
    [FrameType.failed, mebibyte],
    [FrameType.map, 16 + 24 * mapExtentsMax],
    [FrameType.unmap, 8],
    [FrameType.mapAgain, 8],
    [FrameType.tree, framePayloadMaxBytes],
    [FrameType.ended, 0],
    [FrameType.ask, 24],
    [FrameType.prefetch, 16 * 1024],
    [FrameType.serving, 0],
    [0xffff_ffff, 0],
  ];
  for (const [type, payloadBytes] of longest) {
    const headOf = (lengthBytes: number): Uint8Array =>
      new Uint8Array(Uint32Array.of(type, lengthBytes).buffer);
    assert.doesNotThrow(() => new FrameDecoder().push(headOf(payloadBytes)));
    const tooLong = headOf(payloadBytes + 1);
    assert.throws(() => new FrameDecoder().push(tooLong), { code: 'EPROTO' }, `${type}`);
  }
});

test('a frame that comes byte by byte takes no more memory than its bytes', () => {
  const count = 1024 * 1024;
  const decoder = new FrameDecoder();
  decoder.push(new Uint8Array(Uint32Array.of(FrameType.tree, count + 1).buffer));
  const usedBytes = (): number => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = usedBytes();
  for (let at = 0; at < count; at += 1) decoder.push(new Uint8Array(1));
  const grown = usedBytes() - before;
  assert.ok(grown < 64 * 1024 * 1024, `${grown} bytes are held for ${count}`);
  assert.equal(decoder.push(new Uint8Array(1)).length, 1);
});
