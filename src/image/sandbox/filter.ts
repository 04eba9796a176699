/**
 * The server's seccomp filter, as a classic BPF program (linux/filter.h, linux/seccomp.h). Pure.
 *
 * - What serving needs is allowed: about forty calls, none of which opens, connects, starts or traces anything.
 * - io_uring is refused at once: a ring that Node set up while it starts would stay a way around the filter.
 * - Everything else asks the listener (SECCOMP_RET_USER_NOTIF). The broker says yes while the server loads its own
 *   code, and closes the listener before the first untrusted byte is read: then the kernel answers ENOSYS, for ever.
 */
import { ebbError } from '../../base/errors.ts';

/** Numbers by name: [x86-64, arm64]; -1 where an architecture does not have it. */
const serving: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  read: [0, 63],
  write: [1, 64],
  pread64: [17, 67],
  readv: [19, 65],
  writev: [20, 66],
  preadv: [295, 69],
  lseek: [8, 62],
  close: [3, 57],
  futex: [202, 98],
  mmap: [9, 222],
  // With PROT_EXEC, too: V8 compiles.
  mprotect: [10, 226],
  munmap: [11, 215],
  mremap: [25, 216],
  madvise: [28, 233],
  brk: [12, 214],
  clock_gettime: [228, 113],
  clock_getres: [229, 114],
  clock_nanosleep: [230, 115],
  nanosleep: [35, 101],
  gettimeofday: [96, 169],
  epoll_wait: [232, -1],
  epoll_pwait: [281, 22],
  epoll_ctl: [233, 21],
  poll: [7, -1],
  ppoll: [271, 73],
  getrandom: [318, 278],
  rt_sigaction: [13, 134],
  rt_sigprocmask: [14, 135],
  rt_sigreturn: [15, 139],
  sigaltstack: [131, 132],
  restart_syscall: [219, 128],
  sched_yield: [24, 124],
  getpid: [39, 172],
  // Node asks before each variable of its environment that it looks at, 72 times. The kernel has told it already:
  // AT_UID, AT_EUID, AT_GID and AT_EGID of getauxval(3).
  getuid: [102, 174],
  geteuid: [107, 175],
  getgid: [104, 176],
  getegid: [108, 177],
  gettid: [186, 178],
  getrusage: [98, 165],
  membarrier: [324, 283],
  rseq: [334, 293],
  set_robust_list: [273, 99],
  exit: [60, 93],
  exit_group: [231, 94],
};
const ringCalls = [425, 426, 427];
const sendmsg: readonly [number, number] = [46, 211];

const AUDIT_ARCH = { x64: 0xc000_003e, arm64: 0xc000_00b7 } as const;

const LD_W_ABS = 0x20;
const JEQ_K = 0x15;
const RET_K = 0x06;
const RET_ALLOW = 0x7fff_0000;
const RET_USER_NOTIF = 0x7fc0_0000;
const RET_ERRNO_ENOSYS = 0x0005_0000 | 38;
const RET_KILL_PROCESS = 0x8000_0000;

/** struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; } */
const numberAt = 0;
const architectureAt = 4;
const firstArgumentAt = 16;

type Instruction = readonly [code: number, whenTrue: number, whenFalse: number, value: number];

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, [code, whenTrue, whenFalse, value]] of program.entries()) {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, whenTrue);
    view.setUint8(index * 8 + 3, whenFalse);
    view.setUint32(index * 8 + 4, value, true);
  }
  return bytes;
}

/**
 * The filter for this architecture. `handoverFd`: the one descriptor that sendmsg(2) may use, over which the listener
 * itself leaves. Throws EOPNOTSUPP on other architectures than x86-64 and arm64.
 */
export function serverFilter(
  handoverFd: number,
  architecture: NodeJS.Architecture = process.arch,
): Uint8Array {
  if (architecture !== 'x64' && architecture !== 'arm64') {
    throw ebbError('EOPNOTSUPP', `Images cannot be served in a sandbox on ${architecture}.`);
  }
  const column = architecture === 'x64' ? 0 : 1;
  const program: Instruction[] = [
    [LD_W_ABS, 0, 0, architectureAt],
    [JEQ_K, 1, 0, AUDIT_ARCH[architecture]],
    // 32-bit calls have other numbers.
    [RET_K, 0, 0, RET_KILL_PROCESS],
    [LD_W_ABS, 0, 0, numberAt],
  ];
  for (const numbers of Object.values(serving)) {
    const number = numbers[column] ?? -1;
    if (number >= 0) program.push([JEQ_K, 0, 1, number], [RET_K, 0, 0, RET_ALLOW]);
  }
  for (const number of ringCalls)
    program.push([JEQ_K, 0, 1, number], [RET_K, 0, 0, RET_ERRNO_ENOSYS]);
  // sendmsg(handoverFd, ...): the low half of the first argument.
  program.push([JEQ_K, 0, 3, sendmsg[column] ?? -1], [LD_W_ABS, 0, 0, firstArgumentAt]);
  program.push([JEQ_K, 0, 1, handoverFd], [RET_K, 0, 0, RET_ALLOW]);
  program.push([RET_K, 0, 0, RET_USER_NOTIF]);
  return encode(program);
}
