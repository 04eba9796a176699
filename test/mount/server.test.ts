/** The main thread's half of a mount: opens against releases, interrupts, the end; real down to the local files. */
import assert from 'node:assert/strict';
import { closeSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Errno } from '../../src/base/errno.ts';
import { encodeName } from '../../src/base/name.ts';
import { contentPath } from '../../src/tree/layout.ts';
import { Residency } from '../../src/tree/residency.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { servedScene, who } from './served-scene.ts';

const sizeBytes = 3_000_000;
const whole = patternBytes(1, sizeBytes);

test('an open brings residency and descriptor; a read brings its bytes', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const answer = await scene.open(id);
  assert.ok('opened' in answer && answer.opened !== undefined);
  const residency = Residency.attach(answer.opened.residency);
  assert.equal(residency.residentBytes, 0);
  const reply = await scene.read(id, 100, 1_000_000, 1_000);
  assert.deepEqual(reply, { bytes: Buffer.from(whole.subarray(1_000_000, 1_001_000)) });
  assert.ok(residency.has(1_000_000, 1_000));
  closeSync(answer.opened.descriptor);
});

test('a file that is open is not released; a closed one is, and can be read again', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  await scene.read(id, 100, 0, sizeBytes);
  const options = { dryRun: false, signal: new AbortController().signal };
  const refused = scene.releaser.release(id, options);
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 1 });
  assert.match(JSON.stringify(await refused), /EBUSY/);

  const released = scene.releaser.release(id, options);
  await scene.message('quiesce');
  scene.drop(id);
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  assert.deepEqual(Object.keys(await released), ['releasedBytes'], JSON.stringify(await released));
  await scene.message('resume');
  assert.equal(scene.contents.get(id)?.residency.residentBytes, 0);
  const again = await scene.read(id, 102, 0, sizeBytes);
  assert.ok('bytes' in again && again.bytes.equals(whole));
});

test('an open that comes while a file is released waits for the end, then gets what is true then', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  await scene.read(id, 100, 0, sizeBytes);
  scene.drop(id);
  scene.remote.held.add('stat');
  const released = scene.releaser.release(id, {
    dryRun: false,
    signal: new AbortController().signal,
  });
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  await waitFor(() => scene.remote.seen.at(-1) === 'stat a', { what: 'the proof' });
  const question = scene.ask(id);
  await turn();
  assert.ok(!scene.posted.some((message) => message.kind === 'answer'));
  scene.remote.letGo();
  const answer = await scene.answer(question);
  assert.ok('releasedBytes' in (await released), JSON.stringify(await released));
  assert.ok('opened' in answer && answer.opened !== undefined);
  assert.equal(Residency.attach(answer.opened.residency).residentBytes, 0);
  closeSync(answer.opened.descriptor);
});

test('who waits for a release can give up', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const end = Promise.withResolvers<void>();
  const closed = scene.server.whileClosed(id, () => end.promise);
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  const question = scene.ask(id);
  await turn();
  scene.server.take({ kind: 'interrupted', id: question });
  assert.equal((await scene.answer(question)).errno, Errno.EINTR);
  end.resolve();
  await closed;
});

test('a release that begins while an open is being prepared never crosses its answer', async () => {
  await using scene = await servedScene(0);
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.remote.held.add('stat');
  const question = scene.ask(id);
  await waitFor(() => scene.remote.seen.includes('stat a'), { what: 'the open under way' });
  let isWorking = false;
  const end = Promise.withResolvers<void>();
  const closed = scene.server.whileClosed(id, async () => {
    isWorking = true;
    await end.promise;
    isWorking = false;
  });
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  await waitFor(() => isWorking, { what: 'the release' });
  scene.remote.letGo();
  for (let count = 0; count < 20; count += 1) await turn();
  assert.ok(!scene.posted.some((message) => message.kind === 'answer'), 'answered while closed');
  end.resolve();
  await closed;
  const order = (): string[] => scene.posted.map((message) => message.kind);
  await waitFor(() => order().includes('answer'), { what: 'the answer' });
  assert.deepEqual(order(), ['resume', 'answer']);
  scene.bytesOf(await scene.answer(question), 0);
});

test('what is on its way to the thread counts as open', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const prepared = await scene.preparer.open((await scene.node('a')).id);
  const offered = scene.server.offer(prepared);
  const released = await scene.server.whileClosed(prepared.node.id, async () => 'released');
  await offered;
  assert.equal(released, undefined);
  const offer = await scene.message('offer');
  closeSync(offer.opened.descriptor);
  assert.deepEqual(scene.posted, []);
});

test('the end of the mount ends every wait', async () => {
  await using scene = await servedScene(0);
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const closed = scene.server.whileClosed(id, async () => 'worked');
  await scene.message('quiesce');
  scene.remote.held.add('stat');
  scene.remote.held.add('read');
  scene.contents.contentOf(scene.child('a'), 'a');
  const question = scene.ask(id);
  scene.startRead(id, 100, 0, 10);
  await waitFor(() => scene.remote.seen.includes('read a'), { what: 'the read under way' });
  scene.server.close();
  assert.equal(await closed, undefined);
  assert.equal((await scene.answer(question)).errno, Errno.EINTR);
  await waitFor(() => scene.reads.get(100), { what: 'the read' });
  assert.deepEqual(scene.reads.get(100), { errno: Errno.EINTR });
  assert.equal(await scene.server.whileClosed(id, async () => 'worked'), undefined);
  assert.deepEqual(scene.problems, []);
});

test('an interrupted read is answered EINTR, the others go on', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  scene.remote.held.add('read');
  scene.startRead(id, 100, 0, 10);
  scene.startRead(id, 102, 0, 10);
  await waitFor(() => scene.remote.seen.includes('read a'), { what: 'the request' });
  scene.server.take({ kind: 'interruptRead', unique: 100 });
  await waitFor(() => scene.reads.get(100), { what: 'the interrupted read' });
  assert.deepEqual(scene.reads.get(100), { errno: Errno.EINTR });
  scene.remote.letGo();
  const reply = await waitFor(() => scene.reads.get(102), { what: 'the other read' });
  assert.deepEqual(reply, { bytes: Buffer.from(whole.subarray(0, 10)) });
});

test('a signal that is survived ends no wait; who is killed afterwards waits no longer', async () => {
  await using scene = await servedScene(0);
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  scene.remote.held.add('read').add('stat');
  scene.isKilled = false;
  const question = scene.ask(id);
  scene.startRead(id, 100, 0, 10);
  await waitFor(() => scene.remote.seen.includes('read a'), { what: 'the request' });
  scene.server.take({ kind: 'interrupted', id: question });
  scene.server.take({ kind: 'interruptRead', unique: 100 });
  scene.remote.letGo();
  assert.equal((await scene.answer(question)).errno, 0);
  const reply = await waitFor(() => scene.reads.get(100), { what: 'the read' });
  assert.deepEqual(reply, { bytes: Buffer.from(whole.subarray(0, 10)) });
  scene.remote.held.add('stat');
  const next = { kind: 'open', nodeId: id, unique: 102, requester: who } as const;
  scene.server.take({ ...next, id: 102, isInterrupted: true });
  await turn();
  assert.ok(!scene.posted.some((message) => message.kind === 'answer'));
  scene.isKilled = true;
  assert.equal((await scene.answer(102)).errno, Errno.EINTR);
});

test('a version that moved: the open of the old node is ESTALE, the name has a new one', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  await scene.read(id, 100, 0, 10);
  const next = patternBytes(2, sizeBytes);
  scene.remote.putFile('a', next);
  scene.clock.advance(61_000);
  assert.equal((await scene.open(id)).errno, Errno.ESTALE);
  const { id: newId } = scene.child('a');
  assert.notEqual(newId, id);
  // What is here of the old version can be read on, what is not is gone, and never the new bytes.
  assert.deepEqual(await scene.read(id, 102, 0, 10), { bytes: Buffer.from(whole.subarray(0, 10)) });
  assert.deepEqual(await scene.read(id, 104, 2_900_000, 10), { errno: Errno.ESTALE });
  scene.bytesOf(await scene.open(newId), 0);
  assert.deepEqual(await scene.read(newId, 106, 2_900_000, 10), {
    bytes: Buffer.from(next.subarray(2_900_000, 2_900_010)),
  });
});

test('a version that comes back is the old node again, with what was here of it', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole, { version: 'one' });
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  await scene.read(id, 100, 0, 10);
  scene.remote.putFile('a', patternBytes(2, sizeBytes), { version: 'two' });
  scene.clock.advance(61_000);
  assert.equal((await scene.open(id)).errno, Errno.ESTALE);
  const { id: second } = scene.child('a');
  scene.bytesOf(await scene.open(second), 0);
  scene.remote.putFile('a', whole, { version: 'one' });
  scene.clock.advance(61_000);
  assert.equal((await scene.open(second)).errno, Errno.ESTALE);
  assert.equal(scene.child('a').id, id);
  const answer = await scene.open(id);
  assert.deepEqual(scene.bytesOf(answer, 10), Buffer.from(whole.subarray(0, 10)));
});

test('a cache file that is gone is made anew, and nothing of it is believed', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  scene.bytesOf(await scene.open(id), 0);
  await scene.read(id, 100, 0, sizeBytes);
  await scene.contents.store.log.flush();
  rmSync(contentPath(scene.directory, id));
  const answer = await scene.open(id);
  assert.ok('opened' in answer && answer.opened !== undefined);
  assert.equal(Residency.attach(answer.opened.residency).residentBytes, 0);
  closeSync(answer.opened.descriptor);
  const reply = await scene.read(id, 102, 5, 10);
  assert.deepEqual(reply, { bytes: Buffer.from(whole.subarray(5, 15)) });
});

test('a file that shows neither size nor version can be read, with a ttl of 0, too', async () => {
  for (const ttlMs of [0, 60_000]) {
    await using scene = await servedScene(ttlMs);
    scene.remote.showsNothing = true;
    scene.remote.putFile('a', whole);
    const listed = await scene.node('a');
    assert.equal(listed.exact, false);
    // What the kernel does: a lookup, then an open; once more after ESTALE.
    let bytes: Buffer | undefined;
    for (let attempt = 0; attempt < 2 && bytes === undefined; attempt += 1) {
      const { id } = await scene.preparer.resolve(scene.child('a').id);
      const answer = await scene.open(id);
      if (answer.errno === 0) bytes = scene.bytesOf(answer, sizeBytes);
    }
    assert.ok(bytes?.equals(whole), `ttl ${ttlMs}`);
    assert.equal(scene.fetched.length, 1, `ttl ${ttlMs}`);
  }
});

test('such a file can be released and read again: as a new version', async () => {
  await using scene = await servedScene();
  scene.remote.showsNothing = true;
  scene.remote.putFile('a', whole);
  const { id } = await scene.preparer.resolve((await scene.node('a')).id);
  const released = scene.releaser.release(id, {
    dryRun: false,
    signal: new AbortController().signal,
  });
  await scene.message('quiesce');
  scene.server.take({ kind: 'quiesced', nodeId: id, openCount: 0 });
  assert.ok('releasedBytes' in (await released), JSON.stringify(await released));
  assert.equal((await scene.open(id)).errno, Errno.ESTALE);
  const { id: next } = scene.child('a');
  assert.notEqual(next, id);
  assert.ok(scene.bytesOf(await scene.open(next), sizeBytes).equals(whole));
});

test('a prefetched content is offered once, and not while it is released', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('a', whole);
  const { id } = await scene.node('a');
  const prepared = await scene.preparer.open(id);
  await Promise.all([scene.server.offer(prepared), scene.server.offer(prepared)]);
  const offers = scene.posted.filter((message) => message.kind === 'offer');
  for (const offer of offers) closeSync(offer.opened.descriptor);
  assert.ok(offers.length >= 1);
  await scene.server.offer(prepared);
  assert.equal(scene.posted.filter((message) => message.kind === 'offer').length, offers.length);
});

test('a LOOKUP that waited for a listing is answered by main, with what the thread would have said', async () => {
  await using scene = await servedScene();
  scene.remote.putFile('d/e/a', whole);
  await scene.node('d');
  const { id } = scene.child('d');
  const look = (question: number, name: string, resent?: boolean): void =>
    scene.server.take({
      kind: 'list',
      directoryId: id,
      name: encodeName(name),
      ...(resent === undefined ? {} : { resent }),
      id: question,
      unique: 100 + question,
      requester: who,
    });
  look(1001, 'e', false);
  assert.deepEqual(await scene.message('answered'), { kind: 'answered', id: 1001 });
  const child = scene.contents.catalog.child(id, encodeName('e'));
  const entry = scene.entries.get(1101);
  assert.equal(entry?.nodeId, child?.id);
  assert.equal(entry?.entryTimeoutMs, 60_000);
  assert.equal(entry?.attributes.mode, 0o040755);

  look(1002, 'missing', false);
  assert.equal((await scene.answer(1002)).errno, 0, 'that there is none is said by the thread');
  look(1003, 'e');
  assert.equal((await scene.answer(1003)).errno, 0, 'the thread wants to answer');
  assert.deepEqual([...scene.entries.keys()], [1101]);
});
