/**
 * One answer per request, whatever the file system or the sender does; deferred calls; interrupts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/base/errno.ts';
import { Opcode, uniqueResendHighBit } from '../../src/fuse/constants.ts';
import { InterruptLog } from '../../src/fuse/interrupts.ts';
import { recorder, text } from './fixtures.ts';
import { SyntheticKernel } from './synthetic-kernel.ts';
import type { Call, DeferredCall } from '../../src/fuse/filesystem.ts';

test('a file system that throws, forgets or answers twice cannot break the protocol', () => {
  const kernel = new SyntheticKernel({
    getattr: () => {
      throw new Error('a bug');
    },
    readlink: () => undefined,
    statfs: (call) => {
      call.error(Errno.EACCES);
      call.ok();
    },
    access: (call) => {
      call.defer();
      throw new Error('a bug after defer');
    },
  });
  kernel.init();
  assert.equal(kernel.ask({ opcode: Opcode.GETATTR, nodeId: 4 }).errno, Errno.EIO);
  assert.equal(kernel.ask({ opcode: Opcode.READLINK, nodeId: 4 }).errno, Errno.EIO);
  assert.equal(kernel.ask({ opcode: Opcode.STATFS, nodeId: 4 }).errno, Errno.EACCES);
  assert.equal(kernel.ask({ opcode: Opcode.ACCESS, nodeId: 4 }).errno, Errno.EIO);
  const messages = kernel.problems.map(({ operation, message }) => `${operation} ${message}`);
  assert.deepEqual(messages.length, 4);
  assert.match(messages[0] ?? '', /^GETATTR a bug$/);
  assert.match(messages[1] ?? '', /^READLINK .*without an answer/);
  assert.match(messages[2] ?? '', /^STATFS .*answered once/);
});

test('a call object is useless after its method returned', () => {
  let kept: Call | undefined;
  const kernel = new SyntheticKernel({
    readlink: (call) => {
      kept = call;
      call.data(text('x'));
    },
  });
  kernel.init();
  kernel.ask({ opcode: Opcode.READLINK, nodeId: 4 });
  assert.throws(() => kept?.ok(), /answered once/);
});

test('answers to requests that are gone return false', () => {
  const results: boolean[] = [];
  const kernel = new SyntheticKernel({
    open: (call) => void results.push(call.opened(1, 0)),
  });
  kernel.init();
  kernel.sendErrno = Errno.ENOENT;
  kernel.deliver({ opcode: Opcode.OPEN, nodeId: 4 });
  kernel.sendErrno = 0;
  kernel.deliver({ opcode: Opcode.OPEN, nodeId: 4 });
  assert.deepEqual(results, [false, true]);
});

test('deferred calls are answered through a replier, resent ones with their bit', () => {
  const deferred: DeferredCall[] = [];
  const kernel = new SyntheticKernel({ read: (call) => void deferred.push(call.defer()) });
  kernel.init();
  const first = kernel.deliver({ opcode: Opcode.READ, nodeId: 4, body: { size: 5 } });
  const second = kernel.deliver({
    opcode: Opcode.READ,
    nodeId: 4,
    body: { size: 5 },
    resent: true,
  });
  assert.equal(kernel.sent.length, 1, 'only INIT was answered');
  const [one, two] = deferred;
  assert.ok(one !== undefined && two !== undefined);
  kernel.session.replier.data(two, text('later'));
  const answer = kernel.answer(Opcode.READ);
  assert.deepEqual([answer.unique, answer.resent], [second, true]);
  assert.equal(Buffer.from(answer.data).toString(), 'later');
  kernel.session.replier.error(one, Errno.EINTR);
  assert.deepEqual(kernel.answer(Opcode.READ).unique, first);
  const words = new Uint32Array(kernel.sent.at(-2)?.slice(0, 16).buffer ?? new ArrayBuffer(16));
  assert.equal((words[3] ?? 0) & uniqueResendHighBit, uniqueResendHighBit | 0);
});

test('data from a file has the right length, and a file that is too short is an error', () => {
  const kernel = new SyntheticKernel({
    read: (call, _node, _handle, offset, size) => void call.dataFromFile(9, offset, size, size),
  });
  kernel.init();
  const body = { size: 300, offset: 7 };
  const { data } = kernel.ask({ opcode: Opcode.READ, nodeId: 4, body });
  assert.deepEqual([data.length, data[0], data[299]], [300, 7, 7]);
  kernel.readFile = (_fd, bytes) => {
    bytes.fill(1, 0, 299);
    return 299;
  };
  assert.equal(kernel.ask({ opcode: Opcode.READ, nodeId: 4, body }).errno, Errno.EIO);
  kernel.readFile = () => -Errno.ENXIO;
  assert.equal(kernel.ask({ opcode: Opcode.READ, nodeId: 4, body }).errno, Errno.ENXIO);
  const tooMuch = { size: 64 * 1024 * 1024, offset: 0 };
  assert.equal(kernel.ask({ opcode: Opcode.READ, nodeId: 4, body: tooMuch }).errno, Errno.EIO);
});

test('INTERRUPT reaches the file system, before or after its request', () => {
  const interrupted: number[] = [];
  const deferred: DeferredCall[] = [];
  const kernel = new SyntheticKernel({
    read: (call) => void deferred.push(call.defer()),
    interrupt: (unique) => void interrupted.push(unique),
  });
  kernel.init();
  const send = (unique: number): void => {
    const body = { uniqueLow: unique >>> 0, uniqueHigh: Math.floor(unique / 2 ** 32) };
    kernel.deliver({ opcode: Opcode.INTERRUPT, unique: unique + 1, body });
  };
  const asked = kernel.deliver({ opcode: Opcode.READ, nodeId: 4, body: { size: 1 } });
  send(asked);
  assert.deepEqual(interrupted, [asked]);
  const early = 2 ** 40 + 2;
  send(early);
  assert.deepEqual(interrupted, [asked, early]);
  kernel.deliver({ opcode: Opcode.READ, nodeId: 4, unique: early, body: { size: 1 } });
  assert.deepEqual(interrupted, [asked, early, early], 'said again when the request came');
  assert.equal(kernel.sent.length, 1, 'INIT only');
  const without = new SyntheticKernel({});
  without.init();
  assert.equal(without.ask({ opcode: Opcode.INTERRUPT }).errno, Errno.ENOSYS);
});

test('threads share interrupts: what one reads, all pass on', () => {
  const memory = InterruptLog.sharedMemory();
  const seen: [string, number][] = [];
  let woken = 0;
  const make = (name: string): SyntheticKernel => {
    const kernel = new SyntheticKernel(
      { interrupt: (unique) => void seen.push([name, unique]) },
      { interrupts: new InterruptLog(memory), wakeOthers: () => void (woken += 1) },
    );
    kernel.init();
    return kernel;
  };
  const [one, two] = [make('one'), make('two')];
  one.deliver({ opcode: Opcode.INTERRUPT, body: { uniqueLow: 8 } });
  assert.deepEqual([seen, woken], [[['one', 8]], 1]);
  two.session.wakeup();
  two.session.wakeup();
  assert.deepEqual(seen, [
    ['one', 8],
    ['two', 8],
  ]);
});

test('the interrupt log keeps the last entries and says each once', () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeNat(), { maxLength: 600 }), (uniques) => {
      const writer = new InterruptLog();
      const reader = new InterruptLog(writer.memory);
      for (const unique of uniques) writer.add(unique);
      const taken: number[] = [];
      for (let next = reader.take(); next !== undefined; next = reader.take()) taken.push(next);
      assert.deepEqual(taken, uniques.slice(-256));
      assert.ok(uniques.slice(-256).every((unique) => reader.has(unique)));
    }),
    { numRuns: 50 },
  );
});

test('destroy is called once', () => {
  let count = 0;
  const kernel = new SyntheticKernel({ destroy: () => void (count += 1) });
  kernel.init();
  assert.equal(kernel.ask({ opcode: Opcode.DESTROY }).errno, 0);
  kernel.session.end();
  assert.equal(count, 1);
});

const silentOpcodes = new Set<number>([
  Opcode.FORGET,
  Opcode.BATCH_FORGET,
  Opcode.INTERRUPT,
  Opcode.NOTIFY_REPLY,
]);

test('fuzz: any bytes get one well-formed answer or none, never an exception', () => {
  const { fileSystem } = recorder();
  const kernel = new SyntheticKernel(fileSystem, { report: () => undefined });
  kernel.init();
  const { request } = kernel.session;
  const body = fc.uint8Array({ maxLength: 400 });
  const lengthError = fc.constantFrom(0, 0, 0, 0, 1, -1, 8, 100_000, -50);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 60 }),
      body,
      lengthError,
      fc.nat(9),
      (op, bytes, off, ext) => {
        if (op === Opcode.INIT) return;
        request.bytes.fill(0xff, 0, 600);
        request.bytes.set(bytes, 40);
        const length = 40 + bytes.length;
        request.setU32(0, length + off);
        request.setU32(4, op);
        request.set64(8, 4242);
        request.set64(16, 7);
        request.setU16(36, ext);
        const before = kernel.sent.length;
        kernel.session.receive(length);
        const answers = kernel.sent.slice(before);
        assert.equal(answers.length, silentOpcodes.has(op) ? 0 : 1, `opcode ${op}`);
        for (const answer of answers) {
          const words = new Int32Array(answer.slice(0, 16).buffer);
          assert.equal(words[0], answer.length);
          assert.equal(words[2], 4242);
          assert.ok((words[1] ?? 0) <= 0 && (words[1] ?? 0) > -512);
        }
        kernel.sent.length = 0;
      },
    ),
    { numRuns: 5000 },
  );
  // Shorter than a header: nobody can be answered.
  for (let length = 0; length < 40; length += 1) {
    request.setU32(0, length);
    kernel.session.receive(length);
  }
  assert.equal(kernel.sent.length, 0);
});
