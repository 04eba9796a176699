/**
 * What the two Nodes of a server start from: each of their scripts as one file (bundle.ts), and compiled code for it.
 * From the sources they would find, strip and compile over a hundred modules each time, which takes several times as
 * long as all else that a mount does.
 *
 * A server can write nothing, so all of it is made outside of the sandbox, from the same sources with the same flags
 * (prime.ts), after a mount that had none; it lies beside the compiled code that Node keeps for the rest of Ebb, is
 * its owner's, and is read-only for everybody else. It is used as long as no source that is in it has changed. Compiled
 * code that does not fit is compiled anew by Node.
 */
import { spawn } from 'node:child_process';
import {
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from '../../base/node-fs.ts';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface SandboxScript {
  /** The source. */
  readonly source: string;
  /** Its name in the cache. */
  readonly name: string;
}

function script(source: string, name: string): SandboxScript {
  return { source: fileURLToPath(new URL(source, import.meta.url)), name };
}

export const enterScript = script('enter.ts', 'enter.mjs');
export const serverScript = script('../server/main.ts', 'server.mjs');

const stateFile = 'sources';
/** In bytes: with what stands before it, and what prime.ts adds, it is the name of a file (NAME_MAX, 255). */
const ownNameMax = 200;

/**
 * Where it is or would be; undefined when Node was not told to keep compiled code, or this copy of Ebb lies too deep.
 * Each copy on the machine has its own: the server of another one may be of another version.
 */
export function codeCacheDirectory(): string | undefined {
  const base = process.env['NODE_COMPILE_CACHE'];
  if (base === undefined || !path.isAbsolute(base)) return undefined;
  const own = encodeURIComponent(path.join(import.meta.dirname, '../../..'));
  return own.length > ownNameMax ? undefined : path.join(base, `sandbox-${own}`);
}

/** Its file that is there when the rest is: `stateOf` what it was made of. */
export function codeCacheStateFile(directory: string): string {
  return path.join(directory, stateFile);
}

/** What a cache in `directory` says of itself, made of sources in the state `sources`. */
export function codeCacheState(directory: string, sources: string): string {
  return `${sizesOf(directory)}\n${sources}`;
}

/** Of its files. They were on the disk before they got their names (prime.ts): no power cut has emptied them. */
function sizesOf(directory: string): string {
  return [enterScript, serverScript]
    .map(({ name }) => statSync(path.join(directory, name)).size)
    .join(' ');
}

/** Another text for every change of Node or of one of these sources. */
export function stateOfSources(files: readonly string[]): string {
  const lines = files.map((file) => {
    const { size, mtimeMs, ctimeMs, ino } = statSync(file);
    return `${file}\t${size} ${mtimeMs} ${ctimeMs} ${ino}`;
  });
  return [`${process.version} ${process.execPath}`, ...lines].join('\n');
}

/** Whether a file, or a directory and all in it, is ours or root's, is no link, and nobody else may write to it. */
function isOurs(file: string): boolean {
  const found = lstatSync(file);
  const isOwn = found.uid === 0 || found.uid === process.geteuid?.();
  if (!isOwn || (found.mode & 0o022) !== 0) return false;
  if (found.isFile()) return true;
  return found.isDirectory() && readdirSync(file).every((name) => isOurs(path.join(file, name)));
}

/** The cache, when there is one that nobody else can change, made of the sources as they are now. */
export function currentCodeCache(): string | undefined {
  const directory = codeCacheDirectory();
  if (directory === undefined) return undefined;
  try {
    if (!isOurs(directory)) return undefined;
    const state = readFileSync(codeCacheStateFile(directory), 'utf8');
    const files = state.split('\n').slice(2);
    const now = stateOfSources(files.map((line) => line.split('\t', 1)[0] ?? ''));
    return codeCacheState(directory, now) === state ? realpathSync(directory) : undefined;
  } catch {
    // There is none yet, or a source is gone, or it is not for us to read.
    return undefined;
  }
}

/** From now on `directory` counts as no cache, and is made anew. Never throws: it may be another user's. */
export function forgetCodeCache(directory: string): void {
  try {
    rmSync(codeCacheStateFile(directory), { force: true });
  } catch {
    // Every start from it fails once, then.
  }
}

/** Starts making it where it is missing or old; another process does, and nobody waits for it. Never throws. */
export function refreshCodeCache(): void {
  const directory = codeCacheDirectory();
  if (directory === undefined || currentCodeCache() !== undefined) return;
  const prime = fileURLToPath(new URL('prime.ts', import.meta.url));
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', prime, directory],
    { cwd: '/', detached: true, stdio: 'ignore' },
  );
  child.on('error', () => undefined);
  child.unref();
}
