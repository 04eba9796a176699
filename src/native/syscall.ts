/**
 * What the system call that a requester is blocked in will do to the file, as /proc/TID/syscall tells (proc(5)): the
 * call's number and its arguments as they were in registers at its entry, so no other thread can change them. Pure.
 *
 * Everything that is not known for certain is `unknown`, which the policy treats as a writer: 32-bit programs (their
 * numbers mean other calls), and numbers that are not in the table.
 */

export type Effect =
  /** Only reads: what is here may be served, what is not is recalled. */
  | 'reads'
  /** Changes content, but needs what is there: partly overwrites, appends, cuts off. */
  | 'writes'
  /** Makes the file empty: nothing of its content is needed any more. */
  | 'discards'
  /**
   * Done by io_uring or a kernel thread (NFS server): the operation is not seen. At open it can be anything; on
   * an open file only reading, because what truncates by path has a system call of its own.
   */
  | 'deferred'
  | 'unknown';

export interface SystemCall {
  /** As in the manual pages; `unknown` otherwise. */
  readonly name: string;
  readonly effect: Effect;
  /** Reads in the order of the file, if it reads: not a mapping, not an execution. */
  readonly streams: boolean;
  /** mmap(2): what is mapped is used later without any event, also when the mapping grows (mremap(2)). */
  readonly maps: boolean;
  /** Opens a file that it names. */
  readonly opens: boolean;
  /** openat2(2) keeps its flags in user memory: the address of `struct open_how`. Then `effect` is `unknown`. */
  readonly openHowAddress: bigint | undefined;
}

export type Architecture = 'x64' | 'arm64';

/** Which argument has what matters. Numbers: arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl (arm64). */
interface Meaning {
  readonly name: string;
  readonly effect: Effect | 'openFlags' | 'newSize' | 'openHow';
  /** Index of the argument that decides. */
  readonly argument?: number;
  readonly streams?: boolean;
  readonly opens?: boolean;
}

const meanings: readonly (readonly [x64: number, arm64: number, Meaning])[] = [
  [0, 63, { name: 'read', effect: 'reads', streams: true }],
  [17, 67, { name: 'pread64', effect: 'reads', streams: true }],
  [19, 65, { name: 'readv', effect: 'reads', streams: true }],
  [295, 69, { name: 'preadv', effect: 'reads', streams: true }],
  [327, 286, { name: 'preadv2', effect: 'reads', streams: true }],
  [40, 71, { name: 'sendfile', effect: 'reads', streams: true }],
  [275, 76, { name: 'splice', effect: 'reads', streams: true }],
  [326, 285, { name: 'copy_file_range', effect: 'reads', streams: true }],
  [9, 222, { name: 'mmap', effect: 'reads' }],
  [59, 221, { name: 'execve', opens: true, effect: 'reads' }],
  [322, 281, { name: 'execveat', opens: true, effect: 'reads' }],
  // FICLONE, FICLONERANGE, FIDEDUPERANGE: a file that is cloned into was opened for writing before.
  [16, 29, { name: 'ioctl', effect: 'reads' }],
  [209, 2, { name: 'io_submit', effect: 'reads', streams: true }],
  [426, 426, { name: 'io_uring_enter', effect: 'deferred', streams: true }],
  [2, -1, { name: 'open', opens: true, effect: 'openFlags', argument: 1 }],
  [257, 56, { name: 'openat', opens: true, effect: 'openFlags', argument: 2 }],
  [304, 265, { name: 'open_by_handle_at', opens: true, effect: 'openFlags', argument: 2 }],
  [437, 437, { name: 'openat2', opens: true, effect: 'openHow', argument: 2 }],
  [85, -1, { name: 'creat', opens: true, effect: 'discards' }],
  [76, 45, { name: 'truncate', effect: 'newSize', argument: 1 }],
  [77, 46, { name: 'ftruncate', effect: 'newSize', argument: 1 }],
  [285, 47, { name: 'fallocate', effect: 'writes' }],
  [1, 64, { name: 'write', effect: 'writes' }],
  [18, 68, { name: 'pwrite64', effect: 'writes' }],
  [20, 66, { name: 'writev', effect: 'writes' }],
  [296, 70, { name: 'pwritev', effect: 'writes' }],
  [328, 287, { name: 'pwritev2', effect: 'writes' }],
];

function table(column: 0 | 1): ReadonlyMap<number, Meaning> {
  return new Map(meanings.map((row) => [row[column], row[2]] as const).filter(([nr]) => nr >= 0));
}

const tables: Readonly<Record<Architecture, ReadonlyMap<number, Meaning>>> = {
  x64: table(0),
  arm64: table(1),
};

const unknown: SystemCall = Object.freeze({
  name: 'unknown',
  effect: 'unknown',
  streams: false,
  maps: false,
  opens: false,
  openHowAddress: undefined,
});

const kernelThread: SystemCall = Object.freeze({
  name: 'kernel thread',
  effect: 'deferred',
  streams: true,
  maps: false,
  opens: false,
  openHowAddress: undefined,
});

/** Stacks of 32-bit programs lie below this; those of 64-bit programs do not (nothing is mapped there by default). */
const compatStackEnd = 2n ** 32n;

/**
 * Reads a line of /proc/TID/syscall: `NR A0 A1 A2 A3 A4 A5 SP PC`, `-1 SP PC` outside of a call, or `running`.
 * Undefined text: it could not be read. Never throws.
 */
export function parseSystemCall(text: string | undefined, architecture: Architecture): SystemCall {
  const words = text?.trim().split(' ') ?? [];
  if (words.length !== 9) return unknown;
  const numbers = words.map(parseWord);
  const [number, stack, programCounter] = [numbers[0], numbers[7], numbers[8]];
  if (numbers.includes(undefined)) return unknown;
  // Workers of io_uring and kernel threads never were in user space: they have neither.
  if (stack === 0n && programCounter === 0n) return kernelThread;
  if (stack === undefined || stack < compatStackEnd) return unknown;
  const meaning = tables[architecture].get(Number(number));
  if (meaning === undefined) return unknown;
  const argument = meaning.argument === undefined ? 0n : (numbers[meaning.argument + 1] ?? 0n);
  return {
    name: meaning.name,
    effect: effectOf(meaning.effect, argument),
    streams: meaning.streams === true,
    maps: meaning.name === 'mmap',
    opens: meaning.opens === true,
    openHowAddress: meaning.effect === 'openHow' ? argument : undefined,
  };
}

function effectOf(effect: Meaning['effect'], argument: bigint): Effect {
  switch (effect) {
    case 'openFlags':
      return effectOfOpen(argument);
    case 'newSize':
      return argument === 0n ? 'discards' : 'writes';
    case 'openHow':
      return 'unknown';
    default:
      return effect;
  }
}

/**
 * What the call will do to a file that it is opening. A call that is known for something else opens it in a way that
 * does not show: ioctl(2) with a handle (xfs_fsr), or a 64-bit program that uses the 32-bit entry, whose numbers mean
 * other calls (int 0x80: 295 is openat(2) there, and preadv(2) here).
 */
export function effectAtOpen({ effect, opens }: SystemCall): Effect {
  return opens || effect === 'deferred' ? effect : 'unknown';
}

const O_ACCMODE = 0o3n;
/** The same number on x86-64 and arm64. */
const O_TRUNC = 0o1000n;

/** Flags of open(2). O_TRUNC empties the file also with O_RDONLY, when its user may write it (Linux). */
export function effectOfOpen(flags: bigint): Effect {
  if ((flags & O_TRUNC) !== 0n) return 'discards';
  return (flags & O_ACCMODE) === 0n ? 'reads' : 'writes';
}

function parseWord(word: string): bigint | undefined {
  return /^(?:0x[0-9a-f]{1,16}|-?[0-9]{1,19})$/.test(word) ? BigInt(word) : undefined;
}
