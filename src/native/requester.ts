/**
 * Who is blocked in the event: read from /proc/TID, which is his as long as the event is not answered (the groups
 * report thread ids). Whoever was killed meanwhile is nobody: nothing here throws.
 */
import { closeSync, openSync, read as readAt } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Requester } from '../recall/recall.ts';
import { readSymlink } from '../sys/entries.ts';
import { AT_FDCWD, openFd, OpenFlag } from '../sys/fd.ts';
import { read } from '../sys/io.ts';
import { effectOfOpen, parseSystemCall } from './syscall.ts';
import type { Architecture, SystemCall } from './syscall.ts';

export interface RequesterFacts extends Requester {
  readonly tid: number;
  /** Path of the program, as its mount namespace shows it; undefined for kernel threads and the dead. */
  readonly executable: string | undefined;
  /** The thread's name (comm, 15 bytes): for scripts that is the script's, not the interpreter's. */
  readonly name: string;
}

const architecture: Architecture = process.arch === 'arm64' ? 'arm64' : 'x64';

/** `tid` 0: a thread of a pid namespace that is not below ours. */
export function requesterOf(tid: number): RequesterFacts {
  const status = `\n${readProc(tid, 'status') ?? ''}`;
  return {
    tid,
    pid: numberOf(status, 'Tgid') || tid,
    // The fourth is the one that file systems look at.
    uid: numberOf(status, 'Uid', 3),
    gid: numberOf(status, 'Gid', 3),
    executable: executableOf(tid),
    name: valueOf(status, 'Name'),
  };
}

/**
 * Which program that is, without who runs it; `executable` and `name` as in `requesterOf`. Undefined: it cannot be
 * told, or `requesterOf` may tell it otherwise (the kernel escapes names there).
 */
export function programOf(tid: number): Pick<RequesterFacts, 'executable' | 'name'> | undefined {
  const name = readProc(tid, 'comm');
  if (name === undefined || !/^[^\\\n]*\n$/.test(name)) return undefined;
  return { executable: executableOf(tid), name: name.slice(0, -1) };
}

/** Of a line `Key:\tvalue`; '' where there is none. */
function valueOf(status: string, key: string): string {
  const head = `\n${key}:\t`;
  const at = status.indexOf(head);
  if (at < 0) return '';
  const end = status.indexOf('\n', at + head.length);
  return status.slice(at + head.length, end < 0 ? undefined : end);
}

function numberOf(status: string, key: string, index = 0): number {
  const value = Number.parseInt(valueOf(status, key).split('\t')[index] ?? '', 10);
  return Number.isSafeInteger(value) ? value : 0;
}

/** A call, and the line of /proc/TID/syscall that it was known by: `systemCallText`. */
export interface SeenCall extends SystemCall {
  readonly text: string | undefined;
}

/**
 * What a thread that is blocked in an event is about to do. A promise where it is not asleep yet, and for openat2(2),
 * whose flags lie in the program's memory.
 */
export function systemCallOf(tid: number, text = lookedAt(tid)): SeenCall | Promise<SeenCall> {
  return text !== undefined && isRunning(text) ? whenAsleep(tid) : callOf(text, tid);
}

/**
 * Longer than a thread waits for a processor: who is not known by then counts as a writer, and all of the file comes.
 * The sum of the pauses as they were asked for: a machine that is too busy to keep them gives more time.
 */
const asleepMaxMs = 2_000;
const asleepStepMaxMs = 50;

/** Without keeping anybody else waiting. */
async function whenAsleep(tid: number): Promise<SeenCall> {
  let waitedMs = 0;
  for (let stepMs = 1; ; stepMs = Math.min(2 * stepMs, asleepStepMaxMs)) {
    await sleep(stepMs);
    waitedMs += stepMs;
    const text = systemCallText(tid);
    if (text === undefined || !isRunning(text) || waitedMs >= asleepMaxMs) {
      return await callOf(text, tid);
    }
  }
}

function callOf(text: string | undefined, tid: number): SeenCall | Promise<SeenCall> {
  const call = { ...parseSystemCall(text, architecture), text };
  return call.openHowAddress === undefined ? call : withFlags(call, tid, call.openHowAddress);
}

async function withFlags(call: SeenCall, tid: number, address: bigint): Promise<SeenCall> {
  const flags = await readWord(tid, address);
  // Another thread of that program might have changed the word since: it would only betray itself, because who
  // may empty the file may also write anything into it.
  return flags === undefined ? call : { ...call, effect: effectOfOpen(flags) };
}

/**
 * As `systemCallOf`, by what takes no time: looked at once, and only the registers, not the memory of the program,
 * whose pages may have to be brought by somebody who waits for us. Undefined: that does not tell.
 */
export function systemCallAtOnce(tid: number): SystemCall | undefined {
  const text = systemCallText(tid);
  if (text !== undefined && isRunning(text)) return undefined;
  const call = parseSystemCall(text, architecture);
  return call.openHowAddress === undefined ? call : undefined;
}

/**
 * Its event is in the queue a moment before a thread sleeps, and until then the kernel says `running` instead of the
 * call; on a busy machine that moment lasts until the thread gets a processor again. So it is looked at some times.
 */
const looksAtOnce = 8;

function lookedAt(tid: number): string | undefined {
  for (let looks = 1; ; looks += 1) {
    const text = systemCallText(tid);
    if (text === undefined || !isRunning(text) || looks === looksAtOnce) return text;
  }
}

/** The thread did not sleep when its line was read: what it is doing cannot be told. */
export function isRunning(callText: string): boolean {
  return callText.startsWith('running');
}

/**
 * The line of /proc/TID/syscall; undefined when there is none (any more). Each small read of a partly resident file
 * costs one of these.
 */
export function systemCallText(tid: number): string | undefined {
  return readProc(tid, 'syscall');
}

function executableOf(tid: number): string | undefined {
  try {
    const target = readSymlink(AT_FDCWD, procPath(tid, 'exe'));
    return Buffer.from(target.buffer)
      .toString()
      .replace(/ \(deleted\)$/, '');
  } catch {
    return undefined;
  }
}

/** All that is read of a thread is shorter: what is behind is not looked at. */
const text = Buffer.alloc(4096);

/** By our own calls: each first read of a file costs some of these, and node:fs takes several times as long. */
function readProc(tid: number, name: string): string | undefined {
  try {
    using fd = openFd(procPath(tid, name), OpenFlag.rdonly);
    const count = read(fd.fd, text);
    return count <= 0 ? undefined : text.toString('latin1', 0, count);
  } catch {
    return undefined;
  }
}

/** A page that has not come by then is not waited for; reading it goes on in the pool until the program dies. */
const wordMaxMs = 1_000;
/** Each that does not come keeps a thread of the pool: of more programs at a time memory is not looked at. */
const wordsMax = 4;
let wordsBeingRead = 0;

/**
 * `flags`, the first member of struct open_how: 64 bits, native byte order (little on both platforms). Undefined
 * when it cannot be known in time. In the pool, because the program decides who brings the page (it may be of a
 * mapped file of any file system), and that may be somebody who waits for us, or who does it never.
 */
async function readWord(tid: number, address: bigint): Promise<bigint | undefined> {
  if (wordsBeingRead >= wordsMax) return undefined;
  let fd: number;
  try {
    fd = openSync(procPath(tid, 'mem'), 'r');
  } catch {
    return undefined;
  }
  const { promise, resolve } = Promise.withResolvers<bigint | undefined>();
  const word = new BigUint64Array(1);
  wordsBeingRead += 1;
  readAt(fd, new Uint8Array(word.buffer), 0, 8, address, (error, count) => {
    wordsBeingRead -= 1;
    closeSync(fd);
    resolve(error === null && count === 8 ? word[0] : undefined);
  });
  const late = setTimeout(resolve, wordMaxMs, undefined);
  try {
    return await promise;
  } finally {
    clearTimeout(late);
  }
}

function procPath(tid: number, name: string): string {
  return `/proc/${tid}/${name}`;
}
