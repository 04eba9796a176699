/** INIT against a synthetic kernel: what is agreed on, and with whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/base/errno.ts';
import { InitFlag, Opcode } from '../../src/fuse/constants.ts';
import { attributes } from './fixtures.ts';
import { offeredFlags, SyntheticKernel } from './synthetic-kernel.ts';
import type { ConnectionInfo, FileSystem } from '../../src/fuse/filesystem.ts';

test('INIT agrees on what is wanted and offered, and on nothing else', () => {
  let info: ConnectionInfo | undefined;
  const kernel = new SyntheticKernel(
    { init: (given) => void (info = given) },
    { passthrough: true, exportSupport: true, handleKillPriv: true, atomicTruncate: true },
  );
  const answer = kernel.init();
  const [body] = answer.bodies;
  const flags = SyntheticKernel.flagsOf(answer);
  assert.equal(answer.errno, 0);
  assert.equal(body?.major, 7);
  assert.equal(body?.minor, 45);
  assert.equal(body?.time_gran, 1);
  assert.equal(body?.max_pages, 256);
  assert.equal(body?.max_write, 1024 * 1024);
  assert.equal(body?.max_stack_depth, 1);
  assert.equal(body?.max_readahead, 131_072, 'not more than the kernel offered');
  assert.equal(flags & InitFlag.PASSTHROUGH, InitFlag.PASSTHROUGH);
  assert.equal(flags & InitFlag.EXPORT_SUPPORT, InitFlag.EXPORT_SUPPORT);
  for (const never of [
    InitFlag.WRITEBACK_CACHE,
    InitFlag.POSIX_LOCKS,
    InitFlag.FLOCK_LOCKS,
    InitFlag.POSIX_ACL,
    InitFlag.ALLOW_IDMAP,
    InitFlag.OVER_IO_URING,
    InitFlag.SECURITY_CTX,
    InitFlag.NO_OPEN_SUPPORT,
    InitFlag.REQUEST_TIMEOUT,
    InitFlag.HANDLE_KILLPRIV,
  ]) {
    assert.equal(flags & never, 0n);
  }
  assert.equal(info?.flags, flags);
  assert.equal(info?.kernelMinor, 45);
  assert.deepEqual(kernel.session.connection, info);
});

test('nothing is switched on that was not offered, whatever is asked for', () => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.boolean(),
      fc.integer({ min: 31, max: 60 }),
      (offered, passthrough, minor) => {
        const kernel = new SyntheticKernel({}, { passthrough, exportSupport: passthrough });
        const answer = kernel.init(minor, offered);
        const flags = SyntheticKernel.flagsOf(answer);
        assert.equal(flags & ~offered, 0n);
        if ((offered & InitFlag.INIT_EXT) === 0n) assert.equal(flags >> 32n, 0n);
        assert.equal(answer.bodies[0]?.minor, Math.min(minor, 45));
        const granted = (flags & InitFlag.PASSTHROUGH) !== 0n;
        assert.equal(answer.bodies[0]?.max_stack_depth, granted ? 1 : 0);
      },
    ),
  );
});

test('old kernels are refused with EPROTO, a newer major version is asked to come down', () => {
  const old = new SyntheticKernel({});
  assert.equal(old.init(30).errno, Errno.EPROTO);
  assert.match(old.problems[0]?.message ?? '', /7\.30.*7\.31/);
  assert.equal(new SyntheticKernel({}).init(45, offeredFlags, 6).errno, Errno.EPROTO);
  const newer = new SyntheticKernel({});
  const answer = newer.init(0, offeredFlags, 8);
  assert.equal(answer.errno, 0);
  assert.equal(answer.bodies[0]?.major, 7);
  assert.equal(newer.session.connection, undefined);
  assert.equal(newer.init().errno, 0);
  assert.notEqual(newer.session.connection, undefined);
});

test('nothing is served before INIT, unless the connection was established before', () => {
  const fileSystem: FileSystem = { getattr: (call) => void call.attributes(attributes, 0) };
  const kernel = new SyntheticKernel(fileSystem);
  assert.equal(kernel.ask({ opcode: Opcode.GETATTR, nodeId: 1 }).errno, Errno.EIO);
  kernel.init();
  const successor = new SyntheticKernel(fileSystem, { established: kernel.session.connection });
  assert.equal(successor.ask({ opcode: Opcode.GETATTR, nodeId: 1 }).errno, 0);
});
