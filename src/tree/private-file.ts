/** Files with secrets: believed only when nobody but this user can read them, refused with the way out. */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';

/**
 * The bytes of a file that nobody but this user can read. Throws ENOENT, EACCES (others can read it, or it is not ours)
 * and EUCLEAN (no file, or longer than `bytesMax`), each with the way out.
 */
export function readPrivate(file: string, bytesMax: number): Buffer {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = toEbbError(error);
    if (code === 'ENOENT') throw refusal('ENOENT', `${file} is missing`);
    throw refusal('EACCES', `${file} cannot be opened (${message})`);
  }
  try {
    const { mode, size, uid } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG || size > bytesMax) {
      throw refusal('EUCLEAN', `${file} is damaged`);
    }
    const own = process.geteuid?.() ?? uid;
    if (uid !== own) {
      const what = `${file} belongs to user ${uid}, not to user ${own}`;
      throw refusal('EACCES', what, `If it is right: chown ${own} ${file}.`);
    }
    if ((mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      const what = `${file} is open to others (mode ${shown})`;
      throw refusal('EACCES', what, `If nobody has read it: chmod 600 ${file}.`);
    }
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a file that only this user can read: it appears whole or not at all, with its content on stable storage. The
 * name is durable when its directory is. What a crash or somebody else left under the name in between is not written
 * through. One writer at a time. Throws what the file system says.
 */
export function replacePrivate(file: string, content: string | Uint8Array): void {
  const fresh = `${file}.new`;
  rmSync(fresh, { force: true });
  writeFileSync(fresh, content, { mode: 0o600, flag: 'wx', flush: true });
  renameSync(fresh, file);
}

export function refusal(
  code: 'EACCES' | 'ENOENT' | 'EUCLEAN',
  what: string,
  remedy = 'Put the right one back from a copy.',
): Error {
  return ebbError(code, `${what}. ${remedy}`, { retryable: false });
}
