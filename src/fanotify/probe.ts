/**
 * What this machine's kernel really does with FAN_PRE_ACCESS, found out by trying: versions say little, because
 * distributions take patches back to older kernels. Tried on a nameless file of its own, with a mark on that inode.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ftruncateSync, readlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno, errnoMessage } from '../base/errno.ts';
import { ebbError, toEbbError } from '../base/errors.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { Capability, hasCapability } from '../sys/process.ts';
import { FanEvent } from './constants.ts';
import { EventReader } from './event-reader.ts';
import { Group } from './group.ts';
import type { OwnedFd } from '../sys/fd.ts';

/** What is asked, in this order; what comes after a `no` may be `unknown`. */
export type KernelQuestion =
  /** CAP_SYS_ADMIN in the initial user namespace. */
  | 'privilege'
  /** The kernel has FAN_PRE_ACCESS (Linux 6.14). */
  | 'preAccess'
  /** The file system of the directory takes such marks (ext4, xfs, btrfs). */
  | 'filesystem'
  /** mmap(2) at an offset asks for the range that is mapped (Linux 6.18, or a stable kernel with the fix). */
  | 'mapOffset';

export interface KernelFinding {
  readonly question: KernelQuestion;
  readonly answer: 'yes' | 'no' | 'unknown';
  /** One sentence for people. */
  readonly sentence: string;
}

export interface KernelReport {
  /** As uname(2) tells. */
  readonly release: string;
  /** In the order of `KernelQuestion`. */
  readonly findings: readonly KernelFinding[];
  /** All answers are yes. */
  readonly isUsable: boolean;
}

/** What the kernel is asked; replaced one by one by tests that want another kernel. */
export interface KernelAnswers {
  release(): string;
  isPrivileged(): boolean;
  /** Throws what fanotify_init(2) says. */
  createGroup(): Group;
  /** A file of `mapFileBytes` without a name in the directory. Throws. */
  createFile(directory: string): OwnedFd;
  /** 0 or -errno. */
  mark(group: Group, fileFd: number): number;
  /** The range that is asked for when another process maps one page at `mapOffset`; undefined: none came. */
  mappedRange(
    group: Group,
    fileFd: number,
  ): Promise<{ readonly offset: number; readonly count: number } | undefined>;
}

/** The offset at which a page is mapped: not 0 when it is shifted by a page's bits once too often. */
const mapOffset = 65_536;
const pageBytes = 4096;
const mapFileBytes = 2 * mapOffset;
const mapTimeoutMs = 10_000;

/** PROC_USER_INIT_INO: the initial user namespace has this number on every machine. */
const initialUserNamespace = 'user:[4026531837]';

export const realKernelAnswers: KernelAnswers = {
  release: () => os.release(),
  isPrivileged: () =>
    hasCapability(Capability.sysAdmin) &&
    readlinkSync('/proc/self/ns/user') === initialUserNamespace,
  createGroup: () => Group.create({ class: 'preContent' }),
  createFile(directory) {
    const file = openFd(directory, OpenFlag.tmpfile | OpenFlag.rdwr);
    ftruncateSync(file.fd, mapFileBytes);
    return file;
  },
  mark: (group, fileFd) => group.tryMark(fileFd, { on: 'inode', events: FanEvent.preAccess }),
  mappedRange,
};

/** This file's neighbour, whether it is run as TypeScript or compiled. */
const childPath = path.join(
  import.meta.dirname,
  `probe-child${path.extname(import.meta.filename)}`,
);

async function mappedRange(
  group: Group,
  fileFd: number,
): Promise<{ offset: number; count: number } | undefined> {
  let range: { offset: number; count: number } | undefined;
  const reader = new EventReader(group, () => undefined);
  const parameters = [`/proc/${process.pid}/fd/${fileFd}`, String(mapOffset), String(pageBytes)];
  const child = spawn(process.execPath, [childPath, ...parameters], { stdio: 'ignore' });
  let end: 'clean' | 'failed' | undefined;
  const ended = once(child, 'exit').then(
    ([code]) => (end = code === 0 ? 'clean' : 'failed'),
    () => (end = 'failed'),
  );
  const serve = (): void => {
    while (reader.fill() > 0) {
      reader.handleAll(
        (event) => {
          if (event.hasRange) range ??= { offset: event.offset, count: event.count };
          event.allow();
        },
        () => undefined,
      );
    }
  };
  const deadlineMs = performance.now() + mapTimeoutMs;
  try {
    while (end === undefined) {
      if (performance.now() >= deadlineMs) {
        throw ebbError('ETIMEDOUT', 'the process that maps a file did not end in time.');
      }
      serve();
      await sleep(1);
    }
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  if (range === undefined && end === 'failed') {
    throw ebbError('EIO', 'the process that maps a file failed.');
  }
  return range;
}

/**
 * Asks the kernel, with a file system that is meant by a directory of it (which must be writable). Takes about 0.2
 * seconds (a child process is started); never throws. Marks nothing but a file of its own.
 */
export async function probeKernel(
  directory: string,
  answers: KernelAnswers = realKernelAnswers,
): Promise<KernelReport> {
  const release = answers.release();
  const found = new Map<KernelQuestion, KernelFinding>();
  const say: Say = (question, answer, sentence) => {
    found.set(question, { question, answer, sentence });
    return answer === 'yes';
  };
  try {
    await ask(directory, release, answers, say);
  } catch (error) {
    const { message } = toEbbError(error);
    for (const question of questions) {
      if (found.has(question)) continue;
      found.set(question, { question, answer: 'unknown', sentence: `Not found out: ${message}` });
      break;
    }
  }
  const findings = questions.map(
    (question): KernelFinding =>
      found.get(question) ?? { question, answer: 'unknown', sentence: notAsked[question] },
  );
  return { release, findings, isUsable: findings.every(({ answer }) => answer === 'yes') };
}

const questions: readonly KernelQuestion[] = ['privilege', 'preAccess', 'filesystem', 'mapOffset'];

const notAsked: Readonly<Record<KernelQuestion, string>> = {
  privilege: 'Whether the privilege is there could not be found out.',
  preAccess: 'Whether the kernel has FAN_PRE_ACCESS can only be found out with the privilege.',
  filesystem: 'Whether the file system can be watched can only be found out when the kernel can.',
  mapOffset:
    'Whether mmap(2) asks for the right range can only be found out on such a file system.',
};

/** Keeps a finding; whether it is a yes. */
type Say = (question: KernelQuestion, answer: KernelFinding['answer'], sentence: string) => boolean;

function yesIf(isYes: boolean): 'yes' | 'no' {
  return isYes ? 'yes' : 'no';
}

async function ask(
  directory: string,
  release: string,
  answers: KernelAnswers,
  say: Say,
): Promise<void> {
  const isPrivileged = answers.isPrivileged();
  const sentence = isPrivileged
    ? 'CAP_SYS_ADMIN in the initial user namespace is there.'
    : 'CAP_SYS_ADMIN in the initial user namespace is missing: run as root, not inside a user namespace.';
  if (!say('privilege', yesIf(isPrivileged), sentence)) return;
  using group = createGroup(release, answers, say);
  if (group === undefined) return;
  using file = createFile(directory, answers, say);
  if (file === undefined) return;
  if (!askMark(directory, release, answers.mark(group, file.fd), say)) return;
  const range = await answers.mappedRange(group, file.fd);
  if (range === undefined) {
    say('mapOffset', 'no', `Linux ${release} raised no event for mmap(2).`);
    return;
  }
  const isRight = range.offset === mapOffset && range.count === pageBytes;
  say(
    'mapOffset',
    yesIf(isRight),
    isRight
      ? `Linux ${release} asks for the range that mmap(2) maps.`
      : `Linux ${release} asks for a wrong range when a file is mapped at an offset ` +
          `(${range.offset}+${range.count} instead of ${mapOffset}+${pageBytes}): 6.18 or a kernel with the fix ` +
          'is needed.',
  );
}

function needsNewer(release: string): string {
  return `Linux ${release} has no FAN_PRE_ACCESS: 6.14 or newer is needed.`;
}

function createGroup(release: string, answers: KernelAnswers, say: Say): Group | undefined {
  try {
    return answers.createGroup();
  } catch (error) {
    const { errno, message } = toEbbError(error);
    if (errno === Errno.EPERM) {
      say(
        'privilege',
        'no',
        `The kernel refuses a fanotify group in spite of CAP_SYS_ADMIN: ${message}`,
      );
    } else if (errno === Errno.EINVAL || errno === Errno.ENOSYS) {
      say('preAccess', 'no', needsNewer(release));
    } else throw error;
    return undefined;
  }
}

function createFile(directory: string, answers: KernelAnswers, say: Say): OwnedFd | undefined {
  try {
    return answers.createFile(directory);
  } catch (error) {
    const { errno, message } = toEbbError(error);
    // No O_TMPFILE: none of those that can be watched.
    if (errno === Errno.EOPNOTSUPP || errno === Errno.EISDIR) {
      say('filesystem', 'no', cannotBeWatched(directory, message));
    } else say('filesystem', 'unknown', `No file can be made in ${directory}: ${message}`);
    return undefined;
  }
}

function cannotBeWatched(directory: string, message: string): string {
  return `The file system of ${directory} cannot be watched (ext4, xfs and btrfs can): ${message}`;
}

function askMark(directory: string, release: string, result: number, say: Say): boolean {
  if (result === -Errno.EINVAL) return say('preAccess', 'no', needsNewer(release));
  const has = say('preAccess', 'yes', `Linux ${release} has FAN_PRE_ACCESS.`);
  const message = `${errnoMessage(result)}.`;
  return (
    has &&
    say(
      'filesystem',
      yesIf(result === 0),
      result === 0
        ? `The file system of ${directory} can be watched.`
        : cannotBeWatched(directory, message),
    )
  );
}
