/** The FUSE thread's file system, driven by hand: a fake kernel on one side, a scripted main thread on the other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { encodeName } from '../../src/base/name.ts';
import { NodeKind, ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { FOPEN_KEEP_CACHE, FOPEN_PASSTHROUGH } from '../../src/fuse/constants.ts';
import { Residency } from '../../src/tree/residency.ts';
import { readOnly, Scene } from './front-scene.ts';
import { fileRow } from './rows.ts';

const name = encodeName('a');

test('a name that the catalog knows well is answered at once', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const { entry } = call.expect('entry');
  assert.equal(entry.nodeId, node?.id);
  assert.equal(entry.entryTimeoutMs, 60_000);
  assert.deepEqual(scene.told(), []);
});

test('an absent name is remembered by the kernel as long as the listing is fresh', () => {
  using scene = new Scene();
  scene.list([]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const { entry } = call.expect('entry');
  assert.deepEqual([entry.nodeId, entry.entryTimeoutMs], [0, 60_000]);
});

test('a name whose facts are vague is resolved first, and answered under the id that it has then', () => {
  using scene = new Scene();
  const [vague] = scene.list([fileRow('a', { exact: false, version: null, sizeBytes: -1 })]);
  assert.ok(vague);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const question = scene.question('resolve');
  const adopted = scene.catalog.replaceNode(vague.id, fileRow('a', { sizeBytes: 9 }));
  scene.answer(question);
  const { entry } = call.expect('entry');
  assert.equal(entry.nodeId, adopted.id);
  assert.equal(entry.attributes.sizeBytes, 9);
});

test('a name that a listing gave a new vague node while the old one was asked about is asked about again', () => {
  using scene = new Scene();
  const [old] = scene.list([fileRow('a', { exact: false })]);
  assert.ok(old);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, encodeName('a'));
  const first = scene.question('resolve');
  let current = scene.catalog.replaceNode(old.id, fileRow('a', { exact: false, sizeBytes: 7 }));
  scene.answer(first, Errno.ESTALE);
  const second = scene.question('resolve');
  assert.equal(second.kind === 'resolve' && second.nodeId, current.id);
  current = { ...current, exact: true };
  scene.catalog.updateNode(current);
  scene.post({ kind: 'factsChanged', nodeId: current.id });
  scene.answer(second);
  assert.equal(call.expect('entry').entry.nodeId, current.id);
});

test('with a ttl of 0 a lookup asks once and then answers', () => {
  using scene = new Scene(0);
  const [node] = scene.list([fileRow('a')]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  scene.answer(scene.question('revalidate'));
  const { entry } = call.expect('entry');
  assert.deepEqual([entry.nodeId, entry.entryTimeoutMs], [node?.id, 0]);
  assert.deepEqual(scene.told(), []);
});

test('with a ttl of 0 a name that went while it was looked up is absent', () => {
  using scene = new Scene(0);
  const [node] = scene.list([fileRow('a')]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const question = scene.question('revalidate');
  scene.catalog.removeNode(node?.id ?? 0);
  scene.answer(question, Errno.ENOENT);
  scene.answer(scene.question('list'));
  assert.equal(call.errno, Errno.ENOENT);
});

test('errors of the remote reach who asked, definite answers do not count as errors', () => {
  using scene = new Scene(0);
  scene.list([fileRow('a')]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  scene.answer(scene.question('revalidate'), Errno.EACCES);
  assert.equal(call.errno, Errno.EACCES);
});

test('that a request is interrupted is for main to judge, and is told with its next question, too', () => {
  using scene = new Scene(0);
  scene.list([fileRow('a')]);
  const call = scene.kernel.call();
  scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const { id } = scene.question('revalidate');
  scene.fileSystem.interrupt(call.unique);
  assert.deepEqual(scene.told(), [{ kind: 'interrupted', id }]);
  scene.answer({ id }, Errno.EINTR);
  assert.equal(call.errno, Errno.EINTR);
});

test('a request whose answer meets a bug is answered EIO, and so is everybody behind it', () => {
  using scene = new Scene(0);
  scene.list([fileRow('a')]);
  const calls = [scene.kernel.call(), scene.kernel.call()];
  for (const call of calls) scene.fileSystem.lookup(call, ROOT_NODE_ID, name);
  const ids = scene.told().map((message) => ('id' in message ? message.id : 0));
  scene.kernel.refuses = 'entry';
  assert.throws(
    () => scene.post(...ids.map((id) => ({ kind: 'answer' as const, id, errno: 0 }))),
    /refused an answer/,
  );
  assert.deepEqual(
    calls.map((call) => call.errno),
    [Errno.EIO, Errno.EIO],
  );
});

test('a resident file opens as passthrough, a second open shares its backing', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a', { checkedAtMs: scene.nowMs })]);
  assert.ok(node);
  const first = scene.open(node);
  assert.ok((first.flags & FOPEN_PASSTHROUGH) !== 0 && (first.flags & FOPEN_KEEP_CACHE) === 0);
  scene.backing = 2;
  const call = scene.kernel.call();
  scene.fileSystem.open(call, node.id, readOnly);
  const second = call.expect('opened');
  assert.equal(second.backingId, 1);
  assert.equal(scene.openCount[0], 2);
  for (const { fileHandle } of [first, second]) {
    scene.fileSystem.release(scene.kernel.call(), node.id, fileHandle);
  }
  assert.deepEqual(scene.closedBackings, [1]);
  assert.equal(scene.openCount[0], 0);
});

test('an open whose answer the kernel no longer wants is not counted', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  assert.ok(node);
  const call = scene.kernel.call();
  scene.fileSystem.open(call, node.id, readOnly);
  scene.kernel.gone.add(call.unique);
  scene.answer(scene.question('open'), 0, scene.opened());
  assert.equal(scene.openCount[0], 0);
  assert.deepEqual(scene.closedBackings, [1]);
  scene.post({ kind: 'quiesce', nodeId: node.id });
  assert.deepEqual(scene.told().at(-1), { kind: 'quiesced', nodeId: node.id, openCount: 0 });
});

test('an open whose answer the kernel refuses is not counted either', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  assert.ok(node);
  const call = scene.kernel.call();
  scene.fileSystem.open(call, node.id, readOnly);
  scene.kernel.refuses = 'opened';
  const question = scene.question('open');
  assert.throws(() => scene.answer(question, 0, scene.opened()), /refused an answer/);
  assert.equal(call.errno, Errno.EIO);
  assert.equal(scene.openCount[0], 0);
});

test('where passthrough does not work everything is cached; a passing shortage is not held against it', () => {
  using scene = new Scene();
  const [one, two, three] = scene.list(['a', 'b', 'c'].map((each) => fileRow(each)));
  assert.ok(one && two && three);
  scene.backing = -Errno.ENOMEM;
  assert.ok((scene.open(one).flags & FOPEN_KEEP_CACHE) !== 0);
  scene.backing = 1;
  assert.ok((scene.open(two).flags & FOPEN_PASSTHROUGH) !== 0);
  scene.backing = -Errno.EOPNOTSUPP;
  assert.ok((scene.open(three).flags & FOPEN_KEEP_CACHE) !== 0);
  scene.backing = 1;
  const [four] = scene.list([fileRow('d')]);
  assert.ok(four);
  assert.ok((scene.open(four).flags & FOPEN_KEEP_CACHE) !== 0);
});

test('reads of what is here are answered here, reads of what is not by main', () => {
  using scene = new Scene();
  const [here, missing] = scene.list([fileRow('a'), fileRow('b')]);
  assert.ok(here && missing);
  const { fileHandle } = scene.open(here);
  const read = scene.kernel.call();
  scene.fileSystem.read(read, here.id, fileHandle, 990, 100);
  assert.equal(read.expect('data').bytes.toString(), 'x'.repeat(10));
  const beyond = scene.kernel.call();
  scene.fileSystem.read(beyond, here.id, fileHandle, 1_000, 100);
  assert.equal(beyond.expect('data').bytes.length, 0);
  scene.told();

  const cold = scene.open(missing, scene.opened(false));
  const later = scene.kernel.call();
  scene.fileSystem.read(later, missing.id, cold.fileHandle, 10, 5_000);
  assert.equal(later.reply, undefined);
  const [message] = scene.told();
  assert.ok(message?.kind === 'read');
  assert.deepEqual(
    [message.unique, message.offsetBytes, message.sizeBytes],
    [later.unique, 10, 990],
  );
  scene.fileSystem.interrupt(later.unique);
  assert.deepEqual(scene.told(), [{ kind: 'interruptRead', unique: later.unique }]);
});

test('a handle of another file reads nothing', () => {
  using scene = new Scene();
  const [one, two] = scene.list([fileRow('a'), fileRow('b')]);
  assert.ok(one && two);
  const { fileHandle } = scene.open(one);
  const call = scene.kernel.call();
  scene.fileSystem.read(call, two.id, fileHandle, 0, 10);
  assert.equal(call.errno, Errno.EBADF);
});

test('a content that is being released is asked for anew', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a', { checkedAtMs: scene.nowMs })]);
  assert.ok(node);
  const { fileHandle } = scene.open(node);
  scene.post({ kind: 'quiesce', nodeId: node.id });
  assert.deepEqual(scene.told().at(-1), { kind: 'quiesced', nodeId: node.id, openCount: 1 });
  scene.fileSystem.release(scene.kernel.call(), node.id, fileHandle);
  scene.post({ kind: 'quiesce', nodeId: node.id });
  assert.deepEqual(
    scene.told().map((message) => message.kind),
    ['dropped', 'quiesced'],
  );
  const call = scene.kernel.call();
  scene.fileSystem.open(call, node.id, readOnly);
  const question = scene.question('open');
  scene.post({ kind: 'resume', nodeId: node.id });
  scene.answer(question, 0, scene.opened(false));
  call.expect('opened');
});

test('a version that only a transfer could show is fetched anew when some of it is missing', () => {
  using scene = new Scene();
  const row = fileRow('a', { version: 'transfer:1', checkedAtMs: scene.nowMs });
  const [node] = scene.list([row]);
  assert.ok(node);
  const opened = scene.opened();
  scene.open(node, opened);
  Residency.attach(opened.residency).clear();
  const call = scene.kernel.call();
  scene.fileSystem.open(call, node.id, readOnly);
  scene.answer(scene.question('open'), Errno.ESTALE);
  assert.equal(call.errno, Errno.ESTALE);
});

test('what has no name any more cannot be opened, looked into or listed', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  assert.ok(node);
  scene.catalog.removeNode(node.id);
  const open = scene.kernel.call();
  scene.fileSystem.open(open, node.id, readOnly);
  assert.equal(open.errno, Errno.ESTALE);
  const lookup = scene.kernel.call();
  scene.fileSystem.lookup(lookup, node.id, name);
  assert.equal(lookup.errno, Errno.ESTALE);
  const list = scene.kernel.call();
  scene.fileSystem.opendir(list, node.id);
  assert.equal(list.errno, Errno.ESTALE);
});

test('nothing is opened for writing', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  for (const flags of [1, 2, 3, 0o1000]) {
    const call = scene.kernel.call();
    scene.fileSystem.open(call, node?.id ?? 0, flags);
    assert.equal(call.errno, Errno.EROFS);
  }
});

test('symlinks show their targets, other nodes have none', () => {
  using scene = new Scene();
  const target = encodeName('../elsewhere');
  const [link, file] = scene.list([
    fileRow('l', { kind: NodeKind.symlink, target, version: null }),
    fileRow('f'),
  ]);
  const call = scene.kernel.call();
  scene.fileSystem.readlink(call, link?.id ?? 0);
  assert.equal(call.expect('data').bytes.toString(), '../elsewhere');
  const wrong = scene.kernel.call();
  scene.fileSystem.readlink(wrong, file?.id ?? 0);
  assert.equal(wrong.errno, Errno.EINVAL);
});

test('the last access of each file is reported in one message', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  assert.ok(node);
  const { fileHandle } = scene.open(node);
  scene.fileSystem.release(scene.kernel.call(), node.id, fileHandle);
  scene.told();
  scene.post({ kind: 'reportAccesses' });
  assert.deepEqual(scene.told(), [{ kind: 'accessed', accesses: [[node.id, scene.nowMs]] }]);
  scene.post({ kind: 'reportAccesses' });
  assert.deepEqual(scene.told(), []);
});

test('extended attributes: ours by name, the remote’s listed, sizes checked', () => {
  using scene = new Scene();
  const xattrs = new Map([['user.note', encodeName('hello')]]);
  const [node] = scene.list([fileRow('a', { xattrs })]);
  const id = node?.id ?? 0;
  const get = (attribute: string, sizeBytes: number) => {
    const call = scene.kernel.call();
    scene.fileSystem.getxattr(call, id, encodeName(attribute), sizeBytes);
    return call;
  };
  assert.equal(get('user.note', 0).expect('size').value, 5);
  assert.equal(get('user.note', 4).errno, Errno.ERANGE);
  assert.equal(get('user.note', 5).expect('data').bytes.toString(), 'hello');
  assert.equal(get('user.ebb.state', 64).expect('data').bytes.toString(), 'OFL');
  assert.equal(get('user.ebb.key', 64).expect('data').bytes.toString(), 'a');
  assert.equal(get('user.absent', 64).errno, Errno.ENODATA);
  for (const other of ['security.capability', 'system.posix_acl_access', 'trusted.x'])
    assert.equal(get(other, 64).errno, Errno.EOPNOTSUPP);
  const list = scene.kernel.call();
  scene.fileSystem.listxattr(list, id, 64);
  assert.equal(list.expect('data').bytes.toString(), 'user.note\0');
});

test('all of a file is data, whatever is local', () => {
  using scene = new Scene();
  const [node] = scene.list([fileRow('a')]);
  const seek = (offset: number, whence: number) => {
    const call = scene.kernel.call();
    scene.fileSystem.lseek(call, node?.id ?? 0, 1, offset, whence);
    return call;
  };
  assert.equal(seek(10, 3).expect('offset').value, 10);
  assert.equal(seek(10, 4).expect('offset').value, 1_000);
  assert.equal(seek(1_000, 3).errno, Errno.ENXIO);
});
