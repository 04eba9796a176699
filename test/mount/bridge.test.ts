/** Questions and answers between two threads, over a real MessageChannel: each is answered once, whatever happens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { Errno } from '../../src/base/errno.ts';
import { Bridge, questionsPendingMax } from '../../src/mount/bridge.ts';
import type { Answer, Notice } from '../../src/mount/bridge.ts';
import type { ToMain, ToThread } from '../../src/mount/messages.ts';

const who = { pid: 1, uid: 0, gid: 0 };

class Main implements Disposable {
  readonly channel = new MessageChannel();
  readonly notices: Notice[] = [];
  readonly bridge: Bridge;

  constructor(onNotice?: (notice: Notice) => void) {
    this.bridge = new Bridge(
      this.channel.port2,
      onNotice ?? ((notice) => void this.notices.push(notice)),
    );
  }

  post(...messages: ToThread[]): void {
    for (const message of messages) this.channel.port1.postMessage(message);
  }

  received(): ToMain[] {
    const all: ToMain[] = [];
    for (;;) {
      const one = receiveMessageOnPort(this.channel.port1);
      if (one === undefined) return all;
      all.push(one.message as ToMain);
    }
  }

  [Symbol.dispose](): void {
    this.channel.port1.close();
    this.channel.port2.close();
  }
}

test('answers find their questions in any order', () => {
  using main = new Main();
  const answers: [string, Answer][] = [];
  const note = (name: string) => (answer: Answer) => void answers.push([name, answer]);
  main.bridge.ask({ kind: 'list', directoryId: 1 }, who, 100, note('list'));
  main.bridge.ask({ kind: 'open', nodeId: 2 }, who, 102, note('open'));
  const [first, second] = main.received();
  assert.deepEqual(first, { kind: 'list', directoryId: 1, id: 1, unique: 100, requester: who });
  assert.equal(second?.kind, 'open');
  main.post({ kind: 'answer', id: 2, errno: 5 }, { kind: 'factsChanged', nodeId: 9 });
  main.post({ kind: 'answer', id: 1, errno: 0 });
  assert.equal(answers.length, 0);
  main.bridge.drain();
  assert.deepEqual(
    answers.map(([name, { errno }]) => [name, errno]),
    [
      ['open', 5],
      ['list', 0],
    ],
  );
  assert.deepEqual(main.notices, [{ kind: 'factsChanged', nodeId: 9 }]);
  assert.equal(main.bridge.takeFailure(), undefined);
});

test('what one answer throws does not keep the next ones waiting', () => {
  using main = new Main();
  let answered = 0;
  main.bridge.ask({ kind: 'list', directoryId: 1 }, who, 100, () => {
    throw new Error('a bug');
  });
  main.bridge.ask({ kind: 'list', directoryId: 2 }, who, 102, () => (answered += 1));
  main.post({ kind: 'answer', id: 1, errno: 0 }, { kind: 'answer', id: 77, errno: 0 });
  main.post({ kind: 'answer', id: 2, errno: 0 });
  main.bridge.drain();
  assert.equal(answered, 1);
  assert.match(main.bridge.takeFailure()?.message ?? '', /a bug/);
  assert.equal(main.bridge.takeFailure(), undefined);
});

test('a question whose request main has answered is over', () => {
  using main = new Main();
  let answered = 0;
  main.bridge.ask({ kind: 'list', directoryId: 1 }, who, 100, () => (answered += 1));
  main.post({ kind: 'answered', id: 1 });
  main.bridge.drain();
  assert.equal(answered, 0);
  assert.equal(main.bridge.interrupt(100), false, 'nothing waits');
  assert.equal(main.bridge.takeFailure(), undefined);
  assert.deepEqual(main.notices, []);
});

test('an interrupt reaches main once, and is not forgotten when an answer crosses it', () => {
  using main = new Main();
  const errnos: number[] = [];
  const { bridge } = main;
  bridge.ask({ kind: 'list', directoryId: 1 }, who, 100, () => {
    bridge.ask({ kind: 'open', nodeId: 2 }, who, 100, ({ errno }) => errnos.push(errno));
    bridge.ask({ kind: 'open', nodeId: 2 }, who, 102, () => undefined);
  });
  main.post({ kind: 'answer', id: 1, errno: 0 });
  assert.equal(bridge.interrupt(100), true);
  bridge.drain();
  const about = { kind: 'open', nodeId: 2, requester: who };
  assert.deepEqual(main.received().slice(1), [
    { kind: 'interrupted', id: 1 },
    { ...about, id: 2, unique: 100, isInterrupted: true },
    { ...about, id: 3, unique: 102 },
  ]);
  main.post({ kind: 'answer', id: 2, errno: Errno.EINTR });
  bridge.drain();
  assert.deepEqual(errnos, [Errno.EINTR]);
  assert.equal(bridge.interrupt(100), false);
});

test('a descriptor that came with a crossing answer is not lost', () => {
  using main = new Main();
  const answers: Answer[] = [];
  main.bridge.ask({ kind: 'open', nodeId: 1 }, who, 100, (answer) => answers.push(answer));
  const opened = { residency: new SharedArrayBuffer(24), descriptor: 7 };
  main.bridge.interrupt(100);
  main.post({ kind: 'answer', id: 1, errno: 0, opened });
  main.bridge.drain();
  assert.equal(answers[0]?.errno, 0);
  assert.equal(answers[0]?.opened?.descriptor, 7);
});

test('a second question of the same request can be interrupted, too', () => {
  using main = new Main();
  const errnos: number[] = [];
  main.bridge.ask({ kind: 'list', directoryId: 1 }, who, 100, () => {
    main.bridge.ask({ kind: 'open', nodeId: 2 }, who, 100, ({ errno }) => errnos.push(errno));
  });
  main.post({ kind: 'answer', id: 1, errno: 0 });
  main.bridge.drain();
  assert.equal(main.bridge.interrupt(100), true);
  assert.deepEqual(main.received().at(-1), { kind: 'interrupted', id: 2 });
  main.post({ kind: 'answer', id: 2, errno: Errno.EINTR });
  main.bridge.drain();
  assert.deepEqual(errnos, [Errno.EINTR]);
});

test('questions have an end', () => {
  using main = new Main();
  for (let unique = 0; unique < questionsPendingMax; unique += 1) {
    assert.equal(main.bridge.isFull, false);
    main.bridge.ask({ kind: 'list', directoryId: 1 }, who, unique, () => undefined);
  }
  assert.equal(main.bridge.isFull, true);
});
