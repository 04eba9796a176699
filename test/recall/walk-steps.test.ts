/** Who walks and who does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StepDetector } from '../../src/recall/walk-steps.ts';
import type { WalkAdvice, WalkEvent } from '../../src/recall/walk-steps.ts';
import { generator } from '../../src/remote/seeded-faults.ts';

function event(ordinal: number, more: Partial<WalkEvent> = {}): WalkEvent {
  return { kind: 'open', pid: 10, directoryId: 5, ordinal, nowMs: 0, ...more };
}

function observeAll(events: readonly WalkEvent[]): WalkAdvice[] {
  const detector = new StepDetector();
  return events.map((one) => detector.observe(one)).filter((advice) => advice !== undefined);
}

test('a walker is known at its third file; advice doubles, touches, and is never given twice', () => {
  const detector = new StepDetector();
  let end = 0;
  let largest = 0;
  for (let ordinal = 0; ordinal < 1000; ordinal += 1) {
    const advice = detector.observe(event(ordinal));
    if (ordinal < 2) assert.equal(advice, undefined);
    if (ordinal >= 2) assert.ok(end > ordinal || advice !== undefined, 'always ahead');
    if (advice === undefined) continue;
    assert.ok(advice.firstOrdinal >= end && advice.firstOrdinal > ordinal);
    assert.ok(end === 0 || advice.firstOrdinal === end, 'no gaps');
    end = advice.firstOrdinal + advice.count;
    largest = Math.max(largest, end - ordinal - 1);
  }
  assert.equal(largest, 64);
});

test('one open file, opened again and again, is no walk', () => {
  assert.deepEqual(observeAll(Array.from({ length: 50 }, () => event(7))), []);
});

test('a random reader is no walk', () => {
  const random = generator(3);
  const events = Array.from({ length: 3000 }, () => event(Math.floor(random() * 5000)));
  assert.deepEqual(observeAll(events), []);
});

test('processes that take one file each are a walk together', () => {
  const events = Array.from({ length: 10 }, (_, index) => event(index, { pid: 100 + index }));
  assert.ok(observeAll(events).length > 0);
});

test('going back, or in another directory each time, is no walk', () => {
  const back = Array.from({ length: 50 }, (_, index) => event(100 - index));
  assert.deepEqual(observeAll(back), []);
  const across = Array.from({ length: 50 }, (_, index) => event(index, { directoryId: index }));
  assert.deepEqual(observeAll(across), []);
});

test('large files are passed over: alone they are no walk', () => {
  const large = Array.from({ length: 50 }, (_, index) => event(index, { sizeBytes: 2 ** 30 }));
  assert.deepEqual(observeAll(large), []);
  const [advice] = observeAll([0, 1, 2].map((ordinal) => event(ordinal, { sizeBytes: 100 })));
  assert.equal(advice?.fileMaxBytes, 1024 * 1024);
  assert.equal(advice?.totalMaxBytes, 16 * 1024 * 1024);
});

test('after a pause or a jump the walker proves itself again', () => {
  const walk = [0, 1, 2].map((ordinal) => event(ordinal));
  assert.equal(observeAll(walk).length, 1);
  assert.equal(observeAll([...walk, event(3, { nowMs: 20_000 })]).length, 1);
  assert.equal(observeAll([...walk, event(500), event(501)]).length, 1);
  assert.equal(observeAll([...walk, event(500), event(501), event(502)]).length, 2);
});

test('listings are advised in smaller numbers; kinds do not mix', () => {
  const lists = Array.from({ length: 200 }, (_, index) => event(index, { kind: 'list' }));
  assert.ok(Math.max(...observeAll(lists).map((advice) => advice.count)) <= 16);
  const mixed = [event(0), event(1, { kind: 'list' }), event(2, { kind: 'lookup' })];
  assert.deepEqual(observeAll(mixed), []);
});

test('what is remembered is bounded, and a directory can be forgotten', () => {
  const detector = new StepDetector({ walkersMax: 8 });
  for (let index = 0; index < 100; index += 1) {
    detector.observe(event(0, { directoryId: index, pid: index + 1 }));
  }
  assert.equal(detector.size, 8);
  detector.forgetDirectory(99);
  assert.equal(detector.size, 6);
});
