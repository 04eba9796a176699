/**
 * Where daemons announce themselves: one record and one control socket per mount, in a private directory.
 * The daemon writes, the CLI reads. Whoever can write here can make the CLI talk to a false daemon, and whoever
 * can open the socket can command the true one; so the directory must be ours, 0700, and not a symlink, and
 * nothing in it is believed before that was checked.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from './node-fs.ts';
import path from 'node:path';
import { ebbError, toEbbError } from './errors.ts';
import { crypto } from './late-modules.ts';
import { encodeName } from './name.ts';
import { StatField, statFields } from './process-stat.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Process start time in clock ticks (/proc/PID/stat field 22), to tell a reused pid. */
  readonly startTicks: number;
}

/** `<run directory>/<name>.json`, written by each daemon next to its socket. */
export interface RunRecord extends ProcessIdentity {
  /** Absent: a mount. A tree's record is the supervisor's: its daemon may be another one at any time. */
  readonly kind?: 'tree';
  /** Of a tree: who starts another supervisor when this one has died (supervisor/keeper.ts). */
  readonly keeper?: ProcessIdentity;
  readonly mountPoint: string;
  readonly remote: string;
  readonly cacheDirectory: string;
  readonly socketPath: string;
}

export interface RunFiles {
  readonly record: string;
  readonly socket: string;
  readonly log: string;
  /** A directory of the daemon's own while it starts. */
  readonly scratch: string;
}

/** More records than this are not read (something is wrong then, and the CLI must stay bounded). */
const recordsMax = 4096;
const recordBytesMax = 64 * 1024;
/** sun_path holds 108 bytes with the closing zero (unix(7)). */
export const socketPathBytesMax = 107;

/**
 * The run directory's path; not created. Root: `/run/ebb`; others: `$XDG_RUNTIME_DIR/ebb`, else `/tmp/ebb-UID`.
 * `EBB_RUN_DIR` (absolute) overrides both, for tests and for several isolated sets of mounts.
 */
export function runDirectory(
  env: Readonly<Record<string, string | undefined>> = process.env,
  uid: number = process.getuid?.() ?? 0,
): string {
  const override = env['EBB_RUN_DIR'];
  if (override !== undefined && path.isAbsolute(override)) return path.normalize(override);
  if (uid === 0) return '/run/ebb';
  const runtime = env['XDG_RUNTIME_DIR'];
  if (runtime !== undefined && path.isAbsolute(runtime)) return path.join(runtime, 'ebb');
  return `/tmp/ebb-${uid}`;
}

/**
 * Throws EACCES with a sentence unless `directory` is a real directory (no symlink) of this user that nobody
 * else may enter; ENOENT when it does not exist.
 */
export function verifyPrivateDirectory(directory: string): void {
  const uid = process.getuid?.() ?? 0;
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (found === undefined) throw ebbError('ENOENT', `The directory ${directory} does not exist.`);
  if (!found.isDirectory()) {
    throw ebbError('EACCES', `${directory} is not a directory: remove it, it may be an attack.`);
  }
  if (found.uid !== uid) {
    throw ebbError(
      'EACCES',
      `${directory} belongs to uid ${found.uid} instead of ${uid}: not trusted; remove it.`,
    );
  }
  if ((found.mode & 0o077) !== 0) {
    throw ebbError(
      'EACCES',
      `${directory} is open to other users (mode ${(found.mode & 0o7777).toString(8)}); ` +
        `it must be 700: chmod 700 ${directory}`,
    );
  }
}

/** Creates the run directory when it is missing (0700) and verifies it. Returns its path. */
export function ensureRunDirectory(directory: string = runDirectory()): string {
  try {
    mkdirSync(directory, { mode: 0o700 });
    chmodSync(directory, 0o700); // a strict umask may have taken the owner's bits
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EEXIST') throw error;
  }
  verifyPrivateDirectory(directory);
  return directory;
}

/** The name of a mount's files in the run directory: 16 hex digits, from the mount point's absolute path. */
export function runName(mountPoint: string): string {
  return crypto().hash('sha256', encodeName(mountPoint)).slice(0, 16);
}

/** The files of one mount: record, control socket, log. */
export function runFiles(mountPoint: string, directory: string = runDirectory()): RunFiles {
  const base = path.join(directory, runName(mountPoint));
  return {
    record: `${base}.json`,
    socket: `${base}.sock`,
    log: `${base}.log`,
    scratch: `${base}.scratch`,
  };
}

/** Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22); undefined: no such process. */
export function processStartTicks(pid: number): number | undefined {
  let fields: readonly string[];
  try {
    fields = statFields(pid);
  } catch {
    return undefined;
  }
  const state = fields[StatField.state];
  if (state === 'Z' || state === 'X') return undefined;
  const ticks = Number(fields[StatField.startTicks]);
  return Number.isSafeInteger(ticks) ? ticks : undefined;
}

/** Whether the process that wrote the record still runs (a zombie does not; a reused pid is told apart). */
export function isRunning(record: ProcessIdentity): boolean {
  return processStartTicks(record.pid) === record.startTicks;
}

/** Writes a record atomically (0600), or leaves nothing of it. The directory must exist and be verified. */
export function writeRunRecord(record: RunRecord, directory: string = runDirectory()): void {
  const { record: file } = runFiles(record.mountPoint, directory);
  const temporary = `${file}.${process.pid}`;
  try {
    writeFileSync(temporary, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: 'w' });
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    const { code, message } = toEbbError(error);
    throw ebbError(code, `The record ${file} cannot be written: ${message}`, { cause: error });
  }
}

/**
 * Removes the record of a mount, and its socket: this process's own record, or that of a dead one. Whoever serves the
 * mount point by now keeps his; without a record there is nothing to do. The log stays.
 */
export function removeRunRecord(mountPoint: string, directory: string = runDirectory()): void {
  const files = runFiles(mountPoint, directory);
  const found = readRecord(files.record);
  if (found === undefined || (found.pid !== process.pid && isRunning(found))) return;
  rmSync(files.record, { force: true });
  rmSync(files.socket, { force: true });
}

/**
 * All records of the directory, sorted by mount point; broken ones are skipped. No directory: none.
 * Throws EACCES when the directory is not trustworthy.
 */
export function readRunRecords(directory: string = runDirectory()): RunRecord[] {
  if (lstatSync(directory, { throwIfNoEntry: false }) === undefined) return [];
  verifyPrivateDirectory(directory);
  const records: RunRecord[] = [];
  const names = readdirSync(directory).filter((name) => /^[0-9a-f]{16}\.json$/.test(name));
  for (const name of names.slice(0, recordsMax)) {
    const record = readRecord(path.join(directory, name));
    if (record !== undefined) records.push(record);
  }
  return records.sort((a, b) => (a.mountPoint < b.mountPoint ? -1 : 1));
}

function readRecord(file: string): RunRecord | undefined {
  try {
    const found = lstatSync(file);
    if (!found.isFile() || found.size > recordBytesMax) return undefined;
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return isRunRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRunRecord(value: unknown): value is RunRecord {
  if (typeof value !== 'object' || value === null) return false;
  const fields = value as Readonly<Record<string, unknown>>;
  return (
    (fields['kind'] === undefined || fields['kind'] === 'tree') &&
    isProcessIdentity(fields) &&
    (fields['keeper'] === undefined || isProcessIdentity(fields['keeper'])) &&
    ['mountPoint', 'remote', 'cacheDirectory', 'socketPath'].every(
      (key) => typeof fields[key] === 'string',
    ) &&
    path.isAbsolute(String(fields['mountPoint'])) &&
    path.isAbsolute(String(fields['socketPath']))
  );
}

function isProcessIdentity(value: unknown): value is ProcessIdentity {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, startTicks } = value as Partial<ProcessIdentity>;
  return Number.isSafeInteger(pid) && Number(pid) > 0 && Number.isSafeInteger(startTicks);
}

/**
 * The record whose mount point is the longest prefix (by path components) of an absolute, normalized path, and
 * the rest of the path below it ('' = the mount point itself). Pure: touches no file system.
 */
export function findRun(
  records: readonly RunRecord[],
  absolutePath: string,
): { readonly record: RunRecord; readonly inside: string } | undefined {
  let best: RunRecord | undefined;
  for (const record of records) {
    if (!isInside(record.mountPoint, absolutePath)) continue;
    if (best === undefined || record.mountPoint.length > best.mountPoint.length) best = record;
  }
  if (best === undefined) return undefined;
  const skip = best.mountPoint === '/' ? 1 : best.mountPoint.length + 1;
  return { record: best, inside: absolutePath.slice(skip) };
}

/** Whether `absolutePath` is `directory` or below it; both absolute and normalized. Lexical. */
export function isInside(directory: string, absolutePath: string): boolean {
  if (absolutePath === directory || directory === '/') return true;
  return absolutePath.startsWith(`${directory}/`);
}
