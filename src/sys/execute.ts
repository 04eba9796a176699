/** execve(2) and what is set just before it: limits, the signal that follows the parent's death. */
import { addressOf, bind, cString, lazily, orThrow } from './ffi.ts';

const pointerBytes = 8;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/** asm-generic/resource.h RLIMIT_*. */
export const ResourceLimit = {
  fileSize: 1,
  data: 2,
  core: 4,
  openFiles: 7,
  addressSpace: 9,
} as const;
export type ResourceLimit = (typeof ResourceLimit)[keyof typeof ResourceLimit];

const native = lazily(() => ({
  execve: bind<(path: Uint8Array, argv: Uint8Array, envp: Uint8Array) => number>(
    'int execve(const void *path, const void *argv, const void *envp)',
  ),
  prctl: bind<(option: number, a: number, b: number, c: number, d: number) => number>(
    'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
  ),
  setrlimit: bind<(resource: number, limit: BigUint64Array) => number>(
    'int setrlimit(int resource, const void *limit)',
  ),
}));

/** Soft and hard limit, for good. Throws EPERM when it would be raised. */
export function limitResource(resource: ResourceLimit, value: number): void {
  const limit = BigUint64Array.of(BigInt(value), BigInt(value));
  orThrow(native().setrlimit(resource, limit), 'setrlimit', resource);
}

/** The process is killed when the thread that started it ends. Survives an exec that gains no privileges. */
export function dieWithParent(): void {
  orThrow(native().prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), 'prctl(PR_SET_PDEATHSIG)');
}

/** It is not, from now on. */
export function outliveParent(): void {
  orThrow(native().prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0), 'prctl(PR_SET_PDEATHSIG)');
}

/** A list of pointers that ends with none, and behind it, in the same memory, the strings that they lead to. */
function stringList(strings: readonly string[]): Uint8Array {
  const texts = strings.map((text) => cString(text));
  let at = (texts.length + 1) * pointerBytes;
  const bytes = new Uint8Array(texts.reduce((sum, { length }) => sum + length, at));
  const pointers = new BigUint64Array(bytes.buffer, 0, texts.length + 1);
  const address = addressOf(bytes);
  for (const [index, text] of texts.entries()) {
    pointers[index] = address + BigInt(at);
    bytes.set(text, at);
    at += text.length;
  }
  return bytes;
}

/**
 * Replaces the process; all its threads end, descriptors without close-on-exec stay. Returns only by throwing (ENOENT,
 * EACCES, ...).
 */
export function execute(
  path: string,
  argv: readonly string[],
  environment: readonly string[],
): never {
  const result = native().execve(cString(path), stringList(argv), stringList(environment));
  orThrow(result, 'execve', path);
  throw new Error('execve(2) returned without an error');
}
