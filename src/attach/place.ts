/**
 * Changes names in directories where users may be at work at the same moment. What is made comes from the staging
 * directory by rename(2); what goes is moved there first, looked at, and put back when it is not what was meant:
 * between looking and acting somebody may have put another file under the name.
 */
import { randomBytes } from 'node:crypto';
import { ebbError, toEbbError } from '../base/errors.ts';
import { removeDirectory, renameEntry } from '../sys/entries.ts';
import type { RenameMode } from '../sys/entries.ts';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { joinProject } from '../sys/ioctl.ts';
import { fileStatus } from '../sys/stat.ts';

/** A name in a directory. */
export interface Place {
  readonly fd: number;
  readonly name: Uint8Array | string;
}

/** Moves `staged` to a name that is free. False, and nothing changed, when it is not. */
export function placeNew(staged: Place, target: Place): boolean {
  try {
    moveIn(staged, target, 'keep');
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Exchanges `staged` with what has the name, if that is what is meant (`isExpected` looks at it when it is in the
 * staging directory already). False when it is something else or gone: it is where it was. The old one is at `staged`
 * afterwards.
 */
export function placeOver(staged: Place, target: Place, isExpected: () => boolean): boolean {
  if (!exchange(staged, target)) return false;
  return orKept(() => {
    if (isExpected()) return true;
    // Users may be quick: what they put there comes back, whatever became of the name in between.
    if (!exchange(staged, target)) giveBack(staged, target);
    return false;
  });
}

/** What may be a user's lies in the staging directory: no failure here is one of the name alone. */
function orKept(work: () => boolean): boolean {
  try {
    return work();
  } catch (error) {
    const message = 'what a user put into the place of a file could not be put back yet';
    throw ebbError('EIO', `${message}: ${toEbbError(error).message}`, { cause: error });
  }
}

/** A directory that has a project for quotas takes in only files of that project: a stub becomes one. */
function moveIn(staged: Place, target: Place, mode: RenameMode): void {
  const move = (): void => renameEntry(staged.fd, staged.name, target.fd, target.name, mode);
  try {
    move();
  } catch (error) {
    if (toEbbError(error).code !== 'EXDEV' || !becomesOneOf(staged, target.fd)) throw error;
    move();
  }
}

/** Not a symlink, which has no descriptor to say it of, nor what has other names elsewhere. */
function becomesOneOf(staged: Place, directoryFd: number): boolean {
  const flags = OpenFlag.rdonly | OpenFlag.nofollow | OpenFlag.nonblock | OpenFlag.noatime;
  try {
    using file = openFd(staged.name, flags, 0, staged.fd);
    return fileStatus(file.fd).nlink === 1 && joinProject(file.fd, directoryFd);
  } catch (error) {
    if (toEbbError(error).code === 'ELOOP') return false;
    throw error;
  }
}

function exchange(staged: Place, target: Place): boolean {
  try {
    moveIn(staged, target, 'exchange');
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Moves what has the name to `aside` (a free name in the staging directory), if it is what is meant. False when it is
 * something else or gone: it is where it was.
 */
export function takeAway(target: Place, aside: Place, isExpected: () => boolean): boolean {
  try {
    renameEntry(target.fd, target.name, aside.fd, aside.name, 'keep');
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return false;
    throw error;
  }
  return orKept(() => {
    if (isExpected()) return true;
    giveBack(aside, target);
    return false;
  });
}

/** A user's file gets its name back, or another one beside it when somebody took that meanwhile: never none. */
function giveBack(from: Place, target: Place): void {
  if (!placeNew(from, target)) saveBeside(from, target.fd);
}

/** What may be a user's gets a name that nobody else has, in an open directory. */
export function saveBeside(from: Place, directoryFd: number): void {
  const name = `ebb-saved-${randomBytes(8).toString('hex')}`;
  renameEntry(from.fd, from.name, directoryFd, name, 'keep');
}

/** Removes a directory if it is empty. False when it is not, not there, mounted on, or nobody may (chattr +i). */
export function removeIfEmpty(fd: number, name: string): boolean {
  try {
    removeDirectory(fd, name);
    return true;
  } catch (error) {
    const known = toEbbError(error);
    if (['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR', 'EBUSY', 'EPERM'].includes(known.code))
      return false;
    throw ebbError(known.code, `the directory ${name} cannot be removed: ${known.message}`, {
      cause: error,
    });
  }
}
