/**
 * The daemon's log file, which is its standard error: kept from growing without end. `ebb mount` opened it for
 * appending, so it is copied and then cut, and everybody who writes to the descriptor goes on in the same file.
 */
import { copyFileSync, fstatSync, ftruncateSync, statSync, writeSync } from 'node:fs';

/** At this size the log becomes `NAME.log.1`, in the place of the one before, and begins anew. */
export const logFileMaxBytes = 10 * 1024 * 1024;

/**
 * A writer of lines to standard error that rotates `file` when standard error is that regular file, or was until
 * another start at the same place took it for the log of the one before: not the terminal, pipe or file that somebody
 * gave to a daemon in the foreground. Never throws: a log that cannot be written is no reason to end.
 */
export function logFileWriter(
  file: string,
  { descriptor = 2, maxBytes = logFileMaxBytes } = {},
): (line: string) => void {
  // Node knows best how to write to pipes and terminals.
  const isOurs = [file, `${file}.1`].some((name) => isSameFile(descriptor, name));
  if (!isOurs) return (line) => void process.stderr.write(line);
  return (line) => {
    try {
      if (fstatSync(descriptor).size >= maxBytes) rotate(descriptor, file);
      writeSync(descriptor, line);
    } catch {
      // A full disk: the last records are in memory all the same.
    }
  };
}

function rotate(descriptor: number, file: string): void {
  try {
    if (isSameFile(descriptor, file)) copyFileSync(file, `${file}.1`);
  } catch {
    // Without room for the old one the new one matters more.
  }
  ftruncateSync(descriptor, 0);
}

function isSameFile(descriptor: number, file: string): boolean {
  try {
    const [found, ours] = [statSync(file), fstatSync(descriptor)];
    return found.isFile() && found.ino === ours.ino && found.dev === ours.dev;
  } catch {
    return false;
  }
}
