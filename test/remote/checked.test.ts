/**
 * The check around a remote notices every breach of the contract that can be noticed without a
 * checksum.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attributesProblem } from '../../src/remote/attributes.ts';
import { checkedRemote } from '../../src/remote/checked.ts';
import { faultyRemote } from '../../src/remote/fault.ts';
import type { EvilFault } from '../../src/remote/fault-sink.ts';
import { MemoryRemote } from '../../src/remote/memory/memory-remote.ts';
import type { ListedObject, Remote } from '../../src/remote/remote.ts';
import { CollectingSink, listAll, noSignal, readAll, rejectsWith } from '../conformance/collect.ts';
import { patternBytes } from '../support/pattern.ts';

const content = patternBytes(1, 300_000);

function evilRemote(fault: EvilFault): Remote {
  const memory = new MemoryRemote();
  memory.putFile('file', content);
  return checkedRemote(faultyRemote(memory, ({ call }) => (call === 'read' ? fault : undefined)));
}

const evils: readonly EvilFault[] = [
  { kind: 'endsEarly', after: 1 },
  { kind: 'endsEarly', after: 99_999 },
  { kind: 'sendsMore', countBytes: 1 },
  { kind: 'sendsMore', countBytes: 500_000 },
  { kind: 'noHead' },
  { kind: 'headTwice' },
  { kind: 'headLate' },
  { kind: 'wrongVersion' },
  { kind: 'noVersion' },
  { kind: 'overfills' },
  { kind: 'ignoresBackpressure' },
];

void describe('evil remotes', () => {
  for (const fault of evils) {
    for (const lengthBytes of [100_000, undefined]) {
      const what = `${JSON.stringify(fault)}, ${lengthBytes ?? 'to the end'}`;
      void test(`${what}: an error, and not one wrong byte`, async () => {
        const remote = evilRemote(fault);
        const { version } = await remote.stat('file', { signal: noSignal });
        const sink = new CollectingSink({ onFilled: () => sleep(1) });
        const reading = readAll(remote, 'file', { offsetBytes: 50, lengthBytes, version }, sink);
        await rejectsWith(reading, 'EIO', 'ESTALE');
        const passed = sink.bytes();
        assert.ok(passed.equals(content.subarray(50, 50 + passed.length)));
        assert.ok(passed.length <= (lengthBytes ?? Infinity));
      });
    }
  }

  void test('a size that is not true', async () => {
    const read = (byBytes: number, lengthBytes: number | undefined) =>
      readAll(evilRemote({ kind: 'wrongSize', byBytes }), 'file', { lengthBytes });
    await rejectsWith(read(1, undefined), 'EIO');
    await rejectsWith(read(-1, undefined), 'EIO');
    await rejectsWith(read(-250_000, 100_000), 'EIO');
  });

  void test('a remote that goes on after its end is refused', async () => {
    const sink = new CollectingSink();
    const { bytes } = await readAll(evilRemote({ kind: 'goesOnAfterEnd' }), 'file', {}, sink);
    assert.ok(bytes.equals(content));
    await sleep(20);
    assert.ok(sink.bytes().equals(content));
  });

  void test('a remote that swallows what the sink throws does not make it success', async () => {
    const refusal = new Error('disk full');
    const sink = new CollectingSink({ onFilled: () => Promise.reject(refusal) });
    const reading = readAll(evilRemote({ kind: 'swallowsErrors' }), 'file', {}, sink);
    await assert.rejects(reading, refusal);
  });

  void test('a flipped bit passes: that is what checksums are for', async () => {
    const { bytes } = await readAll(evilRemote({ kind: 'flippedByte', at: 70_000 }), 'file');
    assert.equal((bytes[70_000] ?? 0) ^ (content[70_000] ?? 0), 0x10);
  });
});

void test('names that cannot be are skipped, sizes that cannot be are refused', async () => {
  const listed = (objects: readonly ListedObject[]): Remote => {
    const memory = new MemoryRemote();
    memory.list = async function* () {
      yield { objects, skipped: [] };
      yield { objects: objects.slice(0, 1), skipped: [] };
    };
    return checkedRemote(memory);
  };
  const file = (name: string): ListedObject => ({ kind: 'file', name });
  const names = ['good', '..', '.', '', 'a/b', 'nul\0', 'x'.repeat(256), '\ud800'];
  const listing = await listAll(listed(names.map(file)), '');
  assert.deepEqual([...listing.objects.keys()], ['good']);
  assert.deepEqual(
    listing.skipped.map(({ raw }) => raw),
    [...names.slice(1), 'good'],
  );
  await rejectsWith(listAll(listed([{ ...file('a'), sizeBytes: -1 }]), ''), 'EIO');
});

void test('attributes that cannot be true', () => {
  const file = { kind: 'file' } as const;
  assert.equal(attributesProblem({ ...file, sizeBytes: 0, mode: 0o7777, uid: 0 }), undefined);
  for (const wrong of [
    { ...file, sizeBytes: 1.5 },
    { ...file, sizeBytes: 2 ** 53 },
    { ...file, sizeBytes: Number.NaN },
    { ...file, mode: 0o10000 },
    { ...file, uid: -1 },
    { ...file, gid: 2 ** 32 },
    { ...file, version: '' },
    { ...file, mtime: { seconds: 0, nanoseconds: 1_000_000_000 } },
    { ...file, roundedMtime: { seconds: Number.NaN, nanoseconds: 0 } },
    { kind: 'symlink', target: '' } as const,
  ]) {
    assert.notEqual(attributesProblem(wrong), undefined, JSON.stringify(wrong));
  }
});
