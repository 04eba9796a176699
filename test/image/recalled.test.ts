/** Remote images in parts: the device that never reads what is not here, the desk that believes nothing, read-ahead. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { Errno } from '../../src/base/errno.ts';
import { EbbError, ebbError } from '../../src/base/errors.ts';
import { memoryDevice } from '../../src/ext4/block-device.ts';
import { isDamage } from '../../src/ext4/errors.ts';
import { Opcode } from '../../src/fuse/constants.ts';
import { WireBuffer } from '../../src/fuse/wire/buffer.ts';
import { encodeRequest } from '../../src/fuse/wire/message.ts';
import { ServerLink } from '../../src/image/broker/frames.ts';
import { aheadMaxBytes, RecallDesk } from '../../src/image/broker/recall-desk.ts';
import type { ImageRecall } from '../../src/image/broker/source.ts';
import {
  askMaxBytes,
  decodePrefetch,
  encodeAsk,
  encodePrefetch,
  FrameType,
  prefetchRangesMax,
} from '../../src/image/messages.ts';
import { ReadAhead } from '../../src/image/server/read-ahead.ts';
import { NotHereYet, RecalledDevice } from '../../src/image/server/recalled-device.ts';
import type { RecallSource } from '../../src/image/server/recalled-device.ts';
import { RecalledLoop } from '../../src/image/server/recalled-loop.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { SyntheticKernel } from '../fuse/synthetic-kernel.ts';
import { waitFor } from '../support/wait-for.ts';

const chunkBytes = 64;
const chunks = 40;
const imageBytes = chunks * chunkBytes - 13;

/** The remote's bytes; none of them is 0. */
const remoteBytes = Uint8Array.from({ length: imageBytes }, (_, index) => (index % 251) + 1);

/** A broker in memory: brings a chunk when it is told to, or fails. */
class FakeBroker implements RecallSource {
  readonly copy = new Uint8Array(imageBytes);
  readonly #here = new Set<number>();
  readonly #pending = new Map<number, readonly number[]>();
  #last = 0;
  fails = false;

  bring(chunk: number): void {
    const start = chunk * chunkBytes;
    this.copy.set(remoteBytes.subarray(start, start + chunkBytes), start);
    this.#here.add(chunk);
  }

  ask(offsetBytes: number, lengthBytes: number, deadlineMs: number): number {
    const wanted: number[] = [];
    for (
      let at = Math.floor(offsetBytes / chunkBytes);
      at * chunkBytes < offsetBytes + lengthBytes;
      at += 1
    ) {
      wanted.push(at);
    }
    if (wanted.every((chunk) => this.#here.has(chunk))) return 0;
    if (deadlineMs <= 0) return -Errno.EAGAIN;
    this.#last += 1;
    this.#pending.set(this.#last, wanted);
    return this.#last;
  }

  prefetch(): void {}

  wait(recall: number): number {
    if (this.fails) return Errno.EIO;
    for (const chunk of this.#pending.get(recall) ?? []) this.bring(chunk);
    return 0;
  }
}

test('random reads of a device in parts give the remote bytes, or say that they are not here', () => {
  const step = fc.record({
    offset: fc.nat(imageBytes - 1),
    length: fc.nat(300),
    patience: fc.constantFrom('wait' as const, 'throw' as const, 'look' as const),
    outcome: fc.constantFrom('arrives', 'fails', 'stays away'),
    neighbour: fc.nat(chunks - 1),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const broker = new FakeBroker();
      const options = { sizeBytes: imageBytes, chunkBytes, deadlineMs: 1000 };
      const device = new RecalledDevice(memoryDevice(broker.copy), broker, options);
      for (const { offset, length, patience, outcome, neighbour } of steps) {
        broker.bring(neighbour);
        broker.fails = outcome === 'fails';
        const into = new Uint8Array(Math.min(length, imageBytes - offset));
        try {
          device.with(patience, () => device.read(offset, into));
        } catch (error) {
          assert.ok(error instanceof EbbError);
          assert.equal(isDamage(error), false, 'a remote that is away is no damage');
          if (error instanceof NotHereYet) {
            assert.equal(patience, 'throw');
            if (outcome === 'fails') {
              device.failure = { chunks: error.chunks, errno: Errno.ENOSPC };
              assert.throws(() => device.read(offset, into), { code: 'ENOSPC' });
              device.failure = undefined;
            } else if (outcome === 'arrives') {
              assert.equal(broker.wait(error.recall), 0);
              device.arrived(error.chunks);
              device.with('look', () => device.read(offset, into));
              assert.deepEqual(into, remoteBytes.slice(offset, offset + into.length));
            }
          } else if (patience === 'wait') assert.equal(outcome, 'fails');
          else assert.equal(patience, 'look');
          continue;
        }
        assert.deepEqual(into, remoteBytes.slice(offset, offset + into.length));
      }
    }),
  );
});

test('a request whose time is up is EIO for what is not here, and no error for what is', () => {
  const broker = new FakeBroker();
  broker.bring(0);
  const options = { sizeBytes: imageBytes, chunkBytes, deadlineMs: 1000 };
  const device = new RecalledDevice(memoryDevice(broker.copy), broker, options);
  device.patience = 'throw';
  device.giveUpAtMs = 0;
  device.read(0, new Uint8Array(chunkBytes));
  assert.throws(() => device.read(chunkBytes, new Uint8Array(1)), { code: 'EIO', retryable: true });
});

interface DeskParts extends Disposable {
  readonly desk: RecallDesk;
  /** The server's end of the notices. */
  readonly socket: Socket;
  /** What was said about ended recalls: number and errno of each. */
  readonly notices: number[];
  /** Ranges that were brought, and whether only as a hint. */
  readonly brought: (readonly [offset: number, length: number, isAhead: boolean])[];
}

function startDesk(outcome: () => Promise<void>, recallChunkBytes = chunkBytes): DeskParts {
  const [ours, theirs] = socketPair();
  const brought: (readonly [number, number, boolean])[] = [];
  const recall: ImageRecall = {
    chunkBytes: recallChunkBytes,
    deadlineMs: 1000,
    readAheadMaxBytes: 0,
    lost: new Promise(() => {}),
    isHere: (offset, length) => offset + length <= chunkBytes,
    durable: () => ({ has: () => false }),
    bring: (offset, length, deadlineMs) => {
      assert.ok(deadlineMs > 0 && deadlineMs <= 1000);
      brought.push([offset, length, false]);
      return outcome();
    },
    bringAhead: (offset, length) => {
      brought.push([offset, length, true]);
      return outcome();
    },
  };
  const notices: number[] = [];
  const socket = new Socket({ fd: theirs.release() });
  socket.on('data', (bytes: Buffer) => {
    const copy = Uint8Array.from(bytes);
    notices.push(...new Int32Array(copy.buffer));
  });
  const desk = new RecallDesk(recall, imageBytes, ours);
  return {
    desk,
    socket,
    notices,
    brought,
    [Symbol.dispose]: () => {
      desk[Symbol.dispose]();
      socket.destroy();
    },
  };
}

test('the desk brings nothing outside of the image, whatever a server asks for', () => {
  using parts = startDesk(() => Promise.resolve());
  const { desk, brought } = parts;
  const number = fc.oneof(
    fc.double(),
    fc.integer({ min: -5, max: imageBytes + 5 }),
    fc.constantFrom(Number.NaN, Infinity, -0, 2 ** 53, imageBytes, askMaxBytes + 1),
  );
  fc.assert(
    fc.property(number, number, number, (offsetBytes, sizeBytes, deadlineMs) => {
      const answer = desk.ask(encodeAsk({ offsetBytes, sizeBytes, deadlineMs }));
      assert.ok(Number.isInteger(answer));
      desk.prefetch(encodePrefetch([{ offsetBytes, sizeBytes }]));
      for (const [offset, length] of brought) {
        assert.ok(offset >= 0 && length >= 0 && offset + length <= imageBytes);
      }
      brought.length = 0;
    }),
  );
  assert.throws(() => desk.ask(new Uint8Array(23)), { code: 'EPROTO' });
  assert.throws(() => desk.ask(new Uint8Array(32)), { code: 'EPROTO' });
  assert.equal(decodePrefetch(new Uint8Array(16 * 5000)).length, 1024, 'hints are counted');
});

test('hints of single bytes are as few as hints of chunks, and are taken again when they have ended', async () => {
  let end = (): void => undefined;
  const pending = new Promise<void>((resolve) => (end = resolve));
  const largeChunkBytes = 65_536;
  using parts = startDesk(() => pending, largeChunkBytes);
  const hints = encodePrefetch(
    Array.from({ length: prefetchRangesMax }, () => ({ offsetBytes: chunkBytes, sizeBytes: 1 })),
  );
  const atOnceMax = aheadMaxBytes / largeChunkBytes;
  for (let sent = 0; sent <= atOnceMax; sent += prefetchRangesMax) parts.desk.prefetch(hints);
  assert.equal(parts.brought.length, atOnceMax);
  end();
  await setImmediate();
  parts.desk.prefetch(hints);
  assert.equal(parts.brought.length, 2 * atOnceMax);
});

test('the desk says how each recall ended; what a remote says of itself is EIO for readers', async () => {
  const errors = [undefined, ebbError('ESTALE', 'changed'), ebbError('ENOSPC', 'full')];
  using parts = startDesk(() => {
    const error = errors.shift();
    return error === undefined ? Promise.resolve() : Promise.reject(error);
  });
  const ask = (): number =>
    parts.desk.ask(encodeAsk({ offsetBytes: chunkBytes, sizeBytes: 1, deadlineMs: 50 }));
  assert.equal(parts.desk.ask(encodeAsk({ offsetBytes: 0, sizeBytes: 1, deadlineMs: 50 })), 0);
  const numbers = [ask(), ask(), ask()];
  await waitFor(() => parts.notices.length === 6, { what: 'three notices' });
  assert.deepEqual(parts.notices, [numbers[0], 0, numbers[1], Errno.EIO, numbers[2], Errno.ENOSPC]);
});

test('a server that takes no notices is refused further recalls, and hears of all that it has asked for', async () => {
  using parts = startDesk(() => Promise.resolve());
  parts.socket.pause();
  const ask = (): number =>
    parts.desk.ask(encodeAsk({ offsetBytes: chunkBytes, sizeBytes: 1, deadlineMs: 50 }));
  let asked = 0;
  while (ask() > 0) {
    asked += 1;
    assert.ok(asked < 100_000, 'notices are queued without end');
    // They end meanwhile.
    if (asked % 100 === 0) await setImmediate();
  }
  assert.equal(ask(), -Errno.EAGAIN);
  parts.socket.resume();
  await waitFor(() => parts.notices.length === 2 * asked, { what: 'a notice of each' });
  await waitFor(() => ask() > 0, { what: 'a recall that is taken again' });
});

test('a server that has closed its notices is given up', async () => {
  using parts = startDesk(() => Promise.resolve());
  parts.socket.destroy();
  await once(parts.socket, 'close');
  parts.desk.ask(encodeAsk({ offsetBytes: chunkBytes, sizeBytes: 1, deadlineMs: 50 }));
  await parts.desk.lost;
});

test('a server that takes no answers is asked no more questions until it does', async () => {
  const [ours, theirs] = socketPair();
  const server = new Socket({ fd: theirs.release() });
  let taken = 0;
  const link = new ServerLink(
    ours.release(),
    () => {
      taken += 1;
      link.answer(taken);
    },
    () => undefined,
  );
  try {
    server.pause();
    const frames = 100_000;
    const one = new Uint8Array(Uint32Array.of(FrameType.unmap, 0).buffer);
    server.write(Buffer.concat(Array.from({ length: frames }, () => one)));
    let before = -1;
    // Nothing moves any more, one way or the other.
    await waitFor(
      () => {
        const isStill = taken > 0 && taken === before;
        before = taken;
        return isStill;
      },
      { what: 'a link that waits', intervalMs: 500 },
    );
    assert.ok(taken < frames, 'all were answered into a queue');
    const answers: Buffer[] = [];
    server.on('data', (bytes: Buffer) => answers.push(bytes));
    server.resume();
    const bytesOf = (): number => answers.reduce((sum, each) => sum + each.length, 0);
    await waitFor(() => bytesOf() === frames * 4, { what: 'all answers', timeoutMs: 30_000 });
    const all = Uint8Array.from(Buffer.concat(answers));
    assert.ok(new Int32Array(all.buffer).every((value, index) => value === index + 1));
  } finally {
    link.close();
    server.destroy();
  }
});

test('when the broker says nothing any more, who waits is told so, and serving ends', async () => {
  const broker = new FakeBroker();
  const device = new RecalledDevice(memoryDevice(broker.copy), broker, {
    sizeBytes: imageBytes,
    chunkBytes,
    deadlineMs: 60_000,
  });
  const loop = new RecalledLoop(device);
  const kernel = new SyntheticKernel({
    lookup(call) {
      try {
        device.read(0, new Uint8Array(1));
        call.error(Errno.ENOENT);
      } catch (error) {
        assert.ok(error instanceof NotHereYet);
        loop.enter(call.defer(), error);
      }
    },
  });
  const [kernelEnd, deviceEnd] = socketPair();
  const [brokerEnd, noticesEnd] = socketPair();
  using fuse = kernelEnd;
  using fuseDevice = deviceEnd;
  using notices = noticesEnd;
  kernel.init();
  const request = new WireBuffer(65_536);
  const lookup = { opcode: Opcode.LOOKUP, unique: 4, nodeId: 1, names: [Buffer.from('name')] };
  const length = encodeRequest(request, lookup);
  assert.equal(writeSync(fuse.fd, request.bytes, 0, length), length);
  let servings = 0;
  const served = loop.serve(kernel.session, fuseDevice.fd, notices.fd, () => (servings += 1));
  assert.equal(servings, 1);
  assert.equal(kernel.sent.length, 1, 'it waits');
  brokerEnd.close();
  await assert.rejects(served, { code: 'EIO' });
  assert.equal(kernel.answer(Opcode.LOOKUP).unique, 4);
  assert.equal(kernel.answer(Opcode.LOOKUP).errno, Errno.EIO);
  // Lets the thread go that is in read(2).
  fuse.close();
});

test('read-ahead: nothing for random reads, rising windows for reads in order, never twice, never past the end', () => {
  const reads = fc.array(fc.record({ jump: fc.boolean(), to: fc.nat(1000), again: fc.boolean() }), {
    maxLength: 100,
  });
  const fileBytes = 20_000_000;
  const windowMax = 4_000_000;
  const size = 131_072;
  fc.assert(
    fc.property(reads, (steps) => {
      const ahead = new ReadAhead(windowMax);
      let next = 0;
      let inOrder = 0;
      let coveredTo = 0;
      for (const { jump, to, again } of steps) {
        if (jump) {
          next = to * 17_003;
          inOrder = 0;
          coveredTo = 0;
        }
        if (next >= fileBytes) break;
        const length = Math.min(size, fileBytes - next);
        const range = ahead.reading(next, length, fileBytes);
        if (again) assert.equal(ahead.reading(next, length, fileBytes), undefined);
        next += length;
        if (range !== undefined) {
          assert.ok(inOrder > 0, 'somebody has read in order');
          const end = range.offsetBytes + range.lengthBytes;
          assert.ok(range.offsetBytes >= Math.max(next, coveredTo) && end <= fileBytes);
          assert.ok(end - next <= windowMax);
          coveredTo = end;
        }
        inOrder += 1;
      }
    }),
  );
  const ahead = new ReadAhead(windowMax);
  let broughtTo = 0;
  for (let at = 0; at < fileBytes; at += size) {
    const range = ahead.reading(at, Math.min(size, fileBytes - at), fileBytes);
    if (range !== undefined) broughtTo = range.offsetBytes + range.lengthBytes;
  }
  assert.equal(broughtTo, fileBytes, 'a reader in order is always ahead of');
});
