/** What this process may do: descriptor limit, capabilities; what tasks share. */
import { readFileSync } from '../base/node-fs.ts';
import { bind, checkOffset, lazily, orThrow } from './ffi.ts';

const RLIMIT_NOFILE = 7;
/** asm/unistd_64.h; asm-generic/unistd.h. */
const SYS_kcmp = process.arch === 'arm64' ? 272 : 312;
/** linux/kcmp.h */
const KCMP_FILES = 2;
const KCMP_FS = 3;
/** RLIM_INFINITY and everything else that a Number cannot hold. */
const infinity = 2n ** 64n - 1n;

const native = lazily(() => ({
  prlimit: bind<
    (
      pid: number,
      resource: number,
      wanted: BigUint64Array | null,
      previous: BigUint64Array | null,
    ) => number
  >('int prlimit64(int pid, int resource, const void *new_limit, void *old_limit)'),
  kcmp: bind<
    (number: number, pid1: number, pid2: number, type: number, a: number, b: number) => number
  >('long syscall(long number, long pid1, long pid2, long type, unsigned long a, unsigned long b)'),
}));

/**
 * Whether two tasks (threads, by their ids) have one table of descriptors and one working directory and root. False
 * also where the kernel cannot tell or may not (kcmp(2): ENOSYS, EPERM), and when one of them has gone.
 */
export function sharesFiles(one: number, other: number): boolean {
  const same = (type: number): boolean => native().kcmp(SYS_kcmp, one, other, type, 0, 0) === 0;
  return same(KCMP_FILES) && same(KCMP_FS);
}

export interface Limit {
  /** What counts now. Infinity: unlimited. */
  readonly soft: number;
  /** How far the process may raise it without privilege. */
  readonly hard: number;
}

/** How many descriptors the process may have open. */
export function openFilesLimit(): Limit {
  const limit = new BigUint64Array(2);
  orThrow(native().prlimit(0, RLIMIT_NOFILE, null, limit), 'prlimit');
  return { soft: fromRlim(limit[0]), hard: fromRlim(limit[1]) };
}

/**
 * Raises the soft limit of open descriptors to `wanted`, or as near as is permitted (to the hard
 * limit; beyond it with CAP_SYS_RESOURCE, up to fs.nr_open). Never lowers it. Returns what counts
 * now.
 */
export function raiseOpenFilesLimit(wanted: number): Limit {
  checkOffset(wanted, 'A limit');
  const current = openFilesLimit();
  if (current.soft >= wanted) return current;
  if (wanted > current.hard && setOpenFilesLimit(wanted, wanted)) return openFilesLimit();
  setOpenFilesLimit(Math.min(wanted, current.hard), current.hard);
  return openFilesLimit();
}

/**
 * Sets the soft limit to `wanted` exactly, up or down, as far as is permitted; children inherit it. Returns what counts
 * now.
 */
export function setOpenFilesLimitTo(wanted: number): Limit {
  const raised = raiseOpenFilesLimit(wanted);
  if (raised.soft > wanted) setOpenFilesLimit(wanted, raised.hard);
  return openFilesLimit();
}

function setOpenFilesLimit(soft: number, hard: number): boolean {
  const limit = BigUint64Array.of(toRlim(soft), toRlim(hard));
  return native().prlimit(0, RLIMIT_NOFILE, limit, null) === 0;
}

function fromRlim(value: bigint | undefined): number {
  return value === undefined || value === infinity ? Infinity : Number(value);
}

function toRlim(value: number): bigint {
  return value === Infinity ? infinity : BigInt(value);
}

/** linux/capability.h; those that Ebb cares for. */
export const Capability = {
  dacOverride: 1,
  dacReadSearch: 2,
  sysAdmin: 21,
  sysResource: 24,
  lease: 28,
} as const;
export type Capability = (typeof Capability)[keyof typeof Capability];

/**
 * Whether the process (its main thread) has the capability in effect, as /proc/self/status tells.
 */
export function hasCapability(capability: Capability): boolean {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'));
  if (match === null) return false;
  return ((BigInt(`0x${match[1]}`) >> BigInt(capability)) & 1n) === 1n;
}
