/**
 * A process that refreshes a tree, and that the kernel kills when its main thread makes one kind of system call: the
 * last argument, `unlinkat` or the flags of renameat2(2).
 */
import { Populator } from '../../src/attach/populate.ts';
import { openDirectoryRemote } from '../../src/remote/dir/dir-remote.ts';
import { forbidNewPrivileges, installFilter } from '../../src/sys/seccomp.ts';
import { openStubs } from '../tree/support/stubs.ts';

const isArm = process.arch === 'arm64';
const numbers = { unlinkat: isArm ? 35 : 263, renameat2: isArm ? 276 : 316 };

const [, , remote = '', data = '', path = '', catalogPath = '', fatal = ''] = process.argv;
const { store, catalog } = openStubs({ path, data, catalogPath, [Symbol.dispose]: () => {} });
const populator = new Populator({
  remote: await openDirectoryRemote(remote),
  store,
  catalog,
  defaults: { fileMode: 0o644, directoryMode: 0o755, uid: undefined, gid: undefined },
  parallel: 1,
  makerFromStubs: Infinity,
  nowMs: Date.now,
});
forbidNewPrivileges();
using _listener = installFilter(filter());
const signal = new AbortController().signal;
await populator.run({ mode: 'refresh', isExposed: true, signal });

/** struct sock_filter[] over struct seccomp_data (linux/seccomp.h): the number at 0, the fifth argument at 48. */
function filter(): Uint8Array {
  const [load, jumpIfEqual, answer] = [0x20, 0x15, 0x06];
  const [allow, kill] = [0x7fff_0000, 0x8000_0000];
  const isUnlink = fatal === 'unlinkat';
  const flags: readonly (readonly [number, number, number, number])[] = isUnlink
    ? []
    : [
        [load, 0, 0, 48],
        [jumpIfEqual, 0, 1, Number(fatal)],
      ];
  const program = [
    [load, 0, 0, 0],
    [jumpIfEqual, 0, 1 + flags.length, isUnlink ? numbers.unlinkat : numbers.renameat2],
    ...flags,
    [answer, 0, 0, kill],
    [answer, 0, 0, allow],
  ] as const;
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [at, [code, whenTrue, whenFalse, value]] of program.entries()) {
    view.setUint16(at * 8, code, true);
    view.setUint8(at * 8 + 2, whenTrue);
    view.setUint8(at * 8 + 3, whenFalse);
    view.setUint32(at * 8 + 4, value, true);
  }
  return bytes;
}
