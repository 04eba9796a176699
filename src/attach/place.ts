/**
 * Changes names in directories where users may be at work at the same moment. What is made comes from the staging
 * directory by rename(2); what goes is moved there first, looked at, and put back when it is not what was meant:
 * between looking and acting somebody may have put another file under the name.
 */
import { toEbbError } from '../base/errors.ts';
import { renameEntry } from '../sys/entries.ts';

/** A name in a directory. */
export interface Place {
  readonly fd: number;
  readonly name: Uint8Array | string;
}

/** Moves `staged` to a name that is free. False, and nothing changed, when it is not. */
export function placeNew(staged: Place, target: Place): boolean {
  try {
    renameEntry(staged.fd, staged.name, target.fd, target.name, 'keep');
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Exchanges `staged` with what has the name, if that is what is meant (`isExpected` looks at it when it is in the
 * staging directory already). False, and nothing changed, when it is something else or gone. The old one is at
 * `staged` afterwards.
 */
export function placeOver(staged: Place, target: Place, isExpected: () => boolean): boolean {
  if (!exchange(staged, target)) return false;
  if (isExpected()) return true;
  exchange(staged, target);
  return false;
}

function exchange(staged: Place, target: Place): boolean {
  try {
    renameEntry(staged.fd, staged.name, target.fd, target.name, 'exchange');
    return true;
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Moves what has the name to `aside` (a free name in the staging directory), if it is what is meant. False, and the
 * name as before, when it is something else or gone. Where users took the name meanwhile, what was moved stays at
 * `aside` only if they did so within these two calls; then this throws EEXIST rather than lose it.
 */
export function takeAway(target: Place, aside: Place, isExpected: () => boolean): boolean {
  try {
    renameEntry(target.fd, target.name, aside.fd, aside.name, 'keep');
  } catch (error) {
    if (toEbbError(error).code === 'ENOENT') return false;
    throw error;
  }
  if (isExpected()) return true;
  renameEntry(aside.fd, aside.name, target.fd, target.name, 'keep');
  return false;
}
