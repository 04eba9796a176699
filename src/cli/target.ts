/**
 * From what the user typed to a mount and a path inside it. Lexical first: the mount itself is asked nothing, so
 * a hanging mount cannot hang the command that is to repair it. Only when no mount is a prefix are symlinks
 * followed (the user may have one that leads into a mount).
 */
import { existsSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { ebbError } from '../base/errors.ts';
import { decodeName, encodeName } from '../base/name.ts';
import { findRun, isRunning, readRunRecords, runFiles } from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { ControlClient } from './client.ts';
import { imageMounts } from './image/mounts.ts';
import { shellWord } from './terminal.ts';
import { UsageError } from './verb.ts';

export interface Target {
  readonly client: ControlClient;
  /** Relative to the mount point; '' = its root. */
  readonly inside: string;
  /** As the user typed it. */
  readonly typed: string;
}

/** The mounts of this user, as their daemons recorded them. */
export class Mounts {
  readonly live: readonly RunRecord[];
  /** Records whose daemon is gone: the mount may still hang there. */
  readonly dead: readonly RunRecord[];

  constructor(records: readonly RunRecord[] = readRunRecords()) {
    this.live = records.filter(isRunning);
    this.dead = records.filter((record) => !this.live.includes(record));
  }

  /** The mount that holds a path. Throws EbbError ENOENT/ENOTCONN with a sentence when there is none. */
  locate(typed: string): Target {
    const found = this.tryLocate(typed);
    if (found !== undefined) return found;
    const dead = findRun(this.dead, absolutePath(typed));
    if (dead !== undefined) {
      throw ebbError('ENOTCONN', deadSentence(dead.record));
    }
    throw ebbError('ENOENT', `${typed} ${whatItIs(absolutePath(typed))}`);
  }

  tryLocate(typed: string): Target | undefined {
    const absolute = absolutePath(typed);
    const found = findRun(this.live, absolute);
    if (found !== undefined) return this.#target(found, typed);
    if (findRun(this.dead, absolute) !== undefined) return undefined;
    const real = realPathOfName(absolute);
    const behindLink = real === undefined ? undefined : findRun(this.live, real);
    return behindLink === undefined ? undefined : this.#target(behindLink, typed);
  }

  /** The targets of arguments; without arguments the working directory, else the only mount there is. */
  locateAll(typed: readonly string[]): Target[] {
    if (typed.length > 0) return typed.map((one) => this.locate(one));
    const here = this.tryLocate('.');
    if (here !== undefined) return [here];
    return [this.only('Say which directory')];
  }

  /** The root of the only live mount. Throws UsageError starting with `request` when there are several. */
  only(request: string): Target {
    const [first, second] = this.live;
    if (first === undefined) throw ebbError('ENOENT', 'Nothing is mounted; see: ebb mount --help');
    if (second !== undefined) {
      throw new UsageError(`${request}: there are ${this.live.length} mounts (ebb status)`);
    }
    return this.#target({ record: first, inside: '' }, first.mountPoint);
  }

  #target(found: { record: RunRecord; inside: string }, typed: string): Target {
    return { client: new ControlClient(found.record), inside: found.inside, typed };
  }
}

/** Why no daemon answers for a path, for the end of a sentence. */
function whatItIs(absolute: string): string {
  const image = imageMounts().find(({ mountPoint }) => isAtOrBelow(absolute, mountPoint));
  if (image !== undefined)
    return 'is in a mounted image: only ebb status and ebb umount know that.';
  if (existsSync(path.join(absolute, '.ebb'))) {
    return `is a tree that is not attached; attach it with: ebb attach ${shellWord(absolute)}`;
  }
  return 'is not inside a mount of yours; ebb status lists them.';
}

function isAtOrBelow(absolute: string, directory: string): boolean {
  return absolute === directory || absolute.startsWith(`${directory}/`);
}

/** Absolute and normalized, without asking any file system for it. */
export function absolutePath(typed: string): string {
  if (path.isAbsolute(typed)) return trimSlash(path.normalize(typed));
  return trimSlash(path.join(workingDirectory(), typed));
}

function trimSlash(absolute: string): string {
  return absolute.length > 1 && absolute.endsWith('/') ? absolute.slice(0, -1) : absolute;
}

/** The kernel's own name of the working directory: no lookup happens, unlike with stat or realpath. */
function workingDirectory(): string {
  return decodeName(readlinkSync('/proc/self/cwd', { encoding: 'buffer' }));
}

/**
 * The real path of a directory that is to be named `what` in messages. Throws UsageError when it is none. Symlinks are
 * followed.
 */
export function realDirectory(typed: string, what: string): string {
  const absolute = absolutePath(typed);
  const real = realPath(absolute);
  if (real === undefined) {
    throw new UsageError(
      `the ${what} ${absolute} does not exist; create it with: mkdir -p ${absolute}`,
    );
  }
  if (!statSync(Buffer.from(encodeName(real))).isDirectory()) {
    throw new UsageError(`the ${what} ${absolute} is not a directory`);
  }
  return real;
}

/** Follows symlinks in the directory part, not the last component (a symlink is itself a file to talk about). */
function realPathOfName(absolute: string): string | undefined {
  for (const [directory, rest] of [
    [path.dirname(absolute), path.basename(absolute)],
    [absolute, ''],
  ] as const) {
    const real = realPath(directory);
    if (real === undefined) continue;
    const joined = rest === '' ? real : path.join(real, rest);
    if (joined !== absolute) return joined;
  }
  return undefined;
}

function realPath(directory: string): string | undefined {
  try {
    return decodeName(realpathSync.native(Buffer.from(encodeName(directory)), 'buffer'));
  } catch {
    return undefined;
  }
}

/** How an entry of a listing of `target` is shown: under the name that the user typed. */
export function shownPath(target: Target, entryPath: string): string {
  const below = target.inside === '' ? entryPath : entryPath.slice(target.inside.length + 1);
  if (entryPath === target.inside || below === '') return target.typed;
  return target.typed.endsWith('/') ? `${target.typed}${below}` : `${target.typed}/${below}`;
}

/** The absolute path of a path inside a mount, for machine-readable output. */
export function absoluteInMount(mountPoint: string, inside: string): string {
  return inside === '' ? mountPoint : path.join(mountPoint, inside);
}

/** What to do about a mount, or a tree, whose process is gone. */
export function deadSentence({ kind, pid, mountPoint, keeper }: RunRecord): string {
  if (keeper !== undefined && isRunning(keeper)) {
    return (
      `The supervisor of ${mountPoint} (pid ${pid}) is dead. Process ${keeper.pid} keeps what makes readers wait, ` +
      `and starts another one every few seconds until one lives; why none does is in ${runFiles(mountPoint).log}`
    );
  }
  return kind === 'tree'
    ? `The supervisor of ${mountPoint} (pid ${pid}) is dead, and what is not here cannot be read; ` +
        `serve the tree again with: ebb attach ${mountPoint}, or take it away with: ebb umount ${mountPoint}`
    : `The daemon of ${mountPoint} (pid ${pid}) is dead; clean up with: ebb umount ${mountPoint}`;
}
