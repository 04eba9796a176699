/** From opcode to method and from answer to bytes, field by field, against a synthetic kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { Opcode } from '../../src/fuse/constants.ts';
import { WireBuffer } from '../../src/fuse/wire/buffer.ts';
import { encodeRequest } from '../../src/fuse/wire/message.ts';
import { requestShapes } from '../../src/fuse/wire/requests.ts';
import { attributes, entry, recorder, text } from './fixtures.ts';
import { SyntheticKernel } from './synthetic-kernel.ts';

test('an entry, attributes and a created file arrive field by field', () => {
  const kernel = new SyntheticKernel({
    lookup: (call) => void call.entry(entry),
    getattr: (call) => void call.attributes(attributes, 1001),
    create: (call) => void call.created(entry, 2 ** 45, 0x80, 77),
  });
  kernel.init();
  const expected = {
    nodeid: entry.nodeId,
    generation: 0xdead_beef,
    entry_valid: 1,
    entry_valid_nsec: 500_000_000,
    attr_valid: 2,
    attr_valid_nsec: 250_000_000,
    ino: 11,
    size: 2 ** 40 + 5,
    blocks: 13,
    atime: -1,
    mtime: 2 ** 33,
    ctime: 17,
    atimensec: 14,
    mtimensec: 15,
    ctimensec: 18,
    mode: 0o100644,
    nlink: 19,
    uid: 20,
    gid: 21,
    rdev: 22,
    blksize: 4096,
    flags: 0,
  };
  const looked = kernel.ask({ opcode: Opcode.LOOKUP, nodeId: 1, names: [text('a')] });
  assert.deepEqual(looked.bodies, [expected]);
  const got = kernel.ask({ opcode: Opcode.GETATTR, nodeId: 1 });
  assert.equal(got.bodies[0]?.attr_valid, 1);
  assert.equal(got.bodies[0]?.attr_valid_nsec, 1_000_000);
  const created = kernel.ask({ opcode: Opcode.CREATE, nodeId: 1, names: [text('a')] });
  assert.deepEqual(created.bodies, [expected, { fh: 2 ** 45, open_flags: 0x80, backing_id: 77 }]);
});

type Asked = Parameters<SyntheticKernel['ask']>[0];

test('each opcode reaches its method with its own fields', () => {
  const { fileSystem, calls } = recorder();
  const kernel = new SyntheticKernel(fileSystem);
  kernel.init();
  const [a, b] = [text('old'), text('new')];
  const cases: readonly (readonly [Asked, unknown[]])[] = [
    [{ opcode: Opcode.LOOKUP, names: [a] }, ['lookup', 9, 'old']],
    [{ opcode: Opcode.GETATTR, body: { getattr_flags: 0, fh: 4 } }, ['getattr', 9, undefined]],
    [{ opcode: Opcode.GETATTR, body: { getattr_flags: 1, fh: 4 } }, ['getattr', 9, 4]],
    [{ opcode: Opcode.READLINK }, ['readlink', 9]],
    [{ opcode: Opcode.SYMLINK, names: [a, b] }, ['symlink', 9, 'old', 'new']],
    [
      { opcode: Opcode.MKNOD, body: { mode: 1, rdev: 2, umask: 3 }, names: [a] },
      ['mknod', 9, 'old', 1, 2, 3],
    ],
    [{ opcode: Opcode.MKDIR, body: { mode: 1, umask: 3 }, names: [a] }, ['mkdir', 9, 'old', 1, 3]],
    [{ opcode: Opcode.UNLINK, names: [a] }, ['unlink', 9, 'old']],
    [{ opcode: Opcode.RMDIR, names: [a] }, ['rmdir', 9, 'old']],
    [
      { opcode: Opcode.RENAME, body: { newdir: 2 ** 50 }, names: [a, b] },
      ['rename', 9, 'old', 2 ** 50, 'new', 0],
    ],
    [
      { opcode: Opcode.RENAME2, body: { newdir: 5, flags: 2 }, names: [a, b] },
      ['rename', 9, 'old', 5, 'new', 2],
    ],
    [{ opcode: Opcode.LINK, body: { oldnodeid: 5 }, names: [a] }, ['link', 5, 9, 'old']],
    [{ opcode: Opcode.OPEN, body: { flags: 6 } }, ['open', 9, 6]],
    [
      { opcode: Opcode.READ, body: { fh: 3, offset: 2 ** 52, size: 7 } },
      ['read', 9, 3, 2 ** 52, 7],
    ],
    [
      { opcode: Opcode.WRITE, body: { fh: 3, offset: 8, size: 3 }, data: a },
      ['write', 9, 3, 8, 'old'],
    ],
    [{ opcode: Opcode.STATFS }, ['statfs', 9]],
    [{ opcode: Opcode.RELEASE, body: { fh: 3, flags: 2 } }, ['release', 9, 3, 2]],
    [{ opcode: Opcode.FSYNC, body: { fh: 3, fsync_flags: 1 } }, ['fsync', 9, 3, true]],
    [{ opcode: Opcode.FSYNCDIR, body: { fh: 3 } }, ['fsyncdir', 9, 3, false]],
    [
      { opcode: Opcode.SETXATTR, body: { size: 3, flags: 1 }, names: [a], data: b },
      ['setxattr', 9, 'old', 'new', 1],
    ],
    [{ opcode: Opcode.GETXATTR, body: { size: 5 }, names: [a] }, ['getxattr', 9, 'old', 5]],
    [{ opcode: Opcode.LISTXATTR, body: { size: 5 } }, ['listxattr', 9, 5]],
    [{ opcode: Opcode.REMOVEXATTR, names: [a] }, ['removexattr', 9, 'old']],
    [{ opcode: Opcode.FLUSH, body: { fh: 3, lock_owner: 12 } }, ['flush', 9, 3, 12]],
    [{ opcode: Opcode.OPENDIR, body: { flags: 6 } }, ['opendir', 9, 6]],
    [{ opcode: Opcode.READDIR, body: { fh: 3, offset: 4, size: 99 } }, ['readdir', 9, 3, 4, false]],
    [
      { opcode: Opcode.READDIRPLUS, body: { fh: 3, offset: 4, size: 99 } },
      ['readdir', 9, 3, 4, true],
    ],
    [{ opcode: Opcode.RELEASEDIR, body: { fh: 3 } }, ['releasedir', 9, 3]],
    [{ opcode: Opcode.ACCESS, body: { mask: 4 } }, ['access', 9, 4]],
    [
      { opcode: Opcode.CREATE, body: { flags: 1, mode: 2, umask: 3 }, names: [a] },
      ['create', 9, 'old', 1, 2, 3],
    ],
    [
      { opcode: Opcode.TMPFILE, body: { flags: 1, mode: 2, umask: 3 }, names: [a] },
      ['tmpfile', 9, 1, 2, 3],
    ],
    [
      { opcode: Opcode.FALLOCATE, body: { fh: 3, offset: 4, length: 5, mode: 6 } },
      ['fallocate', 9, 3, 6, 4, 5],
    ],
    [{ opcode: Opcode.LSEEK, body: { fh: 3, offset: 4, whence: 3 } }, ['lseek', 9, 3, 4, 3]],
    ...[Opcode.COPY_FILE_RANGE, Opcode.COPY_FILE_RANGE_64].map(
      (opcode): readonly [Asked, unknown[]] => [
        {
          opcode,
          body: { fh_in: 1, off_in: 2, nodeid_out: 3, fh_out: 4, off_out: 5, len: 2 ** 40 },
        },
        ['copyFileRange', 9, 1, 2, 3, 4, 5, 0x7fff_f000, 0],
      ],
    ),
  ];
  for (const [asked, expected] of cases) {
    calls.length = 0;
    const answer = kernel.ask({ nodeId: 9, ...asked });
    assert.equal(answer.errno, Errno.ENOTDIR);
    assert.deepEqual(calls, [expected]);
  }
  calls.length = 0;
  kernel.deliver({ opcode: Opcode.FORGET, nodeId: 9, body: { nlookup: 4 } });
  const forgets = new WireBuffer(64);
  [21, 2, 22, 3].forEach((value, index) => forgets.set64(index * 8, value));
  kernel.deliver({
    opcode: Opcode.BATCH_FORGET,
    body: { count: 2 },
    data: forgets.bytes.slice(0, 32),
  });
  assert.deepEqual(calls, [
    ['forget', 9, 4],
    ['forget', 21, 2],
    ['forget', 22, 3],
  ]);
  assert.deepEqual(kernel.problems, []);
});

test('SETATTR hands over every field, negative times included', () => {
  const { fileSystem, calls } = recorder();
  const kernel = new SyntheticKernel(fileSystem);
  kernel.init();
  const body = { valid: 1, fh: 2, size: 3, atime: -4, mtime: -(2 ** 40), ctime: 6, mode: 10 };
  const rest = { atimensec: 7, mtimensec: 8, ctimensec: 9, uid: 11, gid: 12 };
  kernel.ask({ opcode: Opcode.SETATTR, nodeId: 5, body: { ...body, ...rest } });
  assert.deepEqual(calls, [
    [
      'setattr',
      5,
      {
        valid: 1,
        fileHandle: 2,
        sizeBytes: 3,
        atimeSeconds: -4,
        mtimeSeconds: -(2 ** 40),
        ctimeSeconds: 6,
        atimeNanoseconds: 7,
        mtimeNanoseconds: 8,
        ctimeNanoseconds: 9,
        mode: 10,
        uid: 11,
        gid: 12,
      },
    ],
  ]);
});

test('who asks is told: uid, gid, pid, and that set-user-id bits must go', () => {
  const seen: unknown[] = [];
  const kernel = new SyntheticKernel({
    write: (call, _node, _handle, _offset, data) => {
      const { uid, gid, pid, killSuidGid, resent, opcode } = call;
      seen.push([uid, gid, pid, killSuidGid, resent, opcode]);
      call.written(data.length);
    },
  });
  kernel.init();
  const message = { opcode: Opcode.WRITE, nodeId: 5, uid: 1000, gid: 2000, pid: 3000 };
  const written = kernel.ask({ ...message, body: { size: 1, write_flags: 4 }, data: text('x') });
  assert.deepEqual(written.bodies, [{ size: 1, padding: 0 }]);
  const again = kernel.ask({ ...message, resent: true, body: { size: 0 } });
  assert.equal(again.resent, true, 'bit 63 comes back');
  assert.deepEqual(seen, [
    [1000, 2000, 3000, true, false, Opcode.WRITE],
    [1000, 2000, 3000, false, true, Opcode.WRITE],
  ]);
});

test('absent methods are ENOSYS, except those that the kernel does not forgive', () => {
  const kernel = new SyntheticKernel({});
  kernel.init();
  const succeeding = new Set<number>([Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.DESTROY]);
  const silent = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY]);
  for (const opcode of [...requestShapes.keys(), 99, 4096]) {
    if (opcode === Opcode.INIT || silent.has(opcode)) continue;
    const names = Array.from({ length: requestShapes.get(opcode)?.names ?? 0 }, () => text('n'));
    const isKnown = requestShapes.has(opcode);
    const request = isKnown ? { opcode, nodeId: 3, names } : { opcode: Opcode.READLINK, nodeId: 3 };
    const length = encodeRequest(kernel.session.request, { ...request, unique: 50 });
    kernel.session.request.setU32(4, opcode);
    const before = kernel.sent.length;
    kernel.session.receive(length);
    assert.equal(kernel.sent.length, before + 1);
    const words = new Int32Array(kernel.sent.at(-1)?.buffer ?? new ArrayBuffer(16), 0, 4);
    const expected = succeeding.has(opcode) ? 0 : opcode === Opcode.IOCTL ? -25 : -Errno.ENOSYS;
    assert.equal(words[1], expected, `opcode ${opcode}`);
  }
});

test('directories: entries until full, aligned, with and without attributes', () => {
  const names = ['a', 'four', 'eight888', 'x'.repeat(255)];
  const kernel = new SyntheticKernel({
    readdir: (call, _node, _handle, offset, plus) => {
      const answer = call.directory();
      for (let index = offset; index < names.length; index += 1) {
        const bytes = text(names[index] ?? '');
        const known = index === 1 ? undefined : { ...entry, nodeId: 100 + index };
        const fits = plus
          ? answer.addPlus(bytes, 100 + index, 0o040755, index + 1, known)
          : answer.add(bytes, 100 + index, 0o100644, index + 1);
        if (!fits) break;
      }
      call.directoryDone();
    },
  });
  kernel.init();
  const list = (opcode: number, size: number, offset = 0): unknown[] => {
    const { data } = kernel.ask({ opcode, nodeId: 1, body: { size, offset } });
    assert.ok(data.length <= size);
    const view = new DataView(data.buffer, data.byteOffset);
    const found: unknown[] = [];
    for (let at = 0; at < data.length;) {
      const node = opcode === Opcode.READDIRPLUS ? Number(view.getBigUint64(at, true)) : 0;
      if (opcode === Opcode.READDIRPLUS) at += 128;
      const length = view.getUint32(at + 16, true);
      const name = Buffer.from(data.subarray(at + 24, at + 24 + length)).toString();
      const [ino, next] = [view.getBigUint64(at, true), view.getBigUint64(at + 8, true)];
      found.push([name, Number(ino), Number(next), view.getUint32(at + 20, true), node]);
      at += (24 + length + 7) & ~7;
      if (at > data.length) assert.fail('an entry is cut');
    }
    return found;
  };
  assert.deepEqual(list(Opcode.READDIR, 4096), [
    ['a', 100, 1, 8, 0],
    ['four', 101, 2, 8, 0],
    ['eight888', 102, 3, 8, 0],
    ['x'.repeat(255), 103, 4, 8, 0],
  ]);
  assert.deepEqual(list(Opcode.READDIR, 32 + 32 + 31), [
    ['a', 100, 1, 8, 0],
    ['four', 101, 2, 8, 0],
  ]);
  assert.deepEqual(list(Opcode.READDIR, 32 + 32 + 32).length, 3);
  assert.deepEqual(list(Opcode.READDIRPLUS, 4096, 1), [
    ['four', 101, 2, 4, 0],
    ['eight888', 102, 3, 4, 102],
    ['x'.repeat(255), 103, 4, 4, 103],
  ]);
  assert.deepEqual(list(Opcode.READDIR, 4096, 4), []);
});

test('numbers of 2^53 and more are refused with an errno that fits', () => {
  const { fileSystem, calls } = recorder();
  const kernel = new SyntheticKernel(fileSystem);
  kernel.init();
  const askWithHuge = (opcode: number, atBytes: number): number => {
    const length = encodeRequest(kernel.session.request, { opcode, nodeId: 4, unique: 70 });
    kernel.session.request.setU32(atBytes, 0);
    kernel.session.request.setU32(atBytes + 4, 0x20_0000);
    kernel.session.receive(length);
    return kernel.answer(opcode).errno;
  };
  assert.equal(askWithHuge(Opcode.SETATTR, 40 + 16), Errno.EFBIG);
  assert.equal(askWithHuge(Opcode.FALLOCATE, 40 + 16), Errno.EFBIG);
  assert.equal(askWithHuge(Opcode.WRITE, 40 + 8), Errno.EFBIG);
  assert.equal(askWithHuge(Opcode.READ, 40 + 8), Errno.EINVAL);
  assert.equal(askWithHuge(Opcode.LSEEK, 40 + 8), Errno.ENXIO);
  assert.equal(askWithHuge(Opcode.STATFS, 16), Errno.ESTALE, 'a node id nobody gave out');
  assert.deepEqual(calls, []);
});
