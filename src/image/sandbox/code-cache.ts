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
import { readFileSync, realpathSync, statSync } from 'node:fs';
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

/** Where it is or would be; undefined when Node was not told to keep compiled code. */
export function codeCacheDirectory(): string | undefined {
  const base = process.env['NODE_COMPILE_CACHE'];
  return base === undefined || !path.isAbsolute(base) ? undefined : path.join(base, 'sandbox');
}

/** Its file that is there when the rest is: `stateOf` what it was made of. */
export function codeCacheStateFile(directory: string): string {
  return path.join(directory, stateFile);
}

/** Another text for every change of Node or of one of these sources. */
export function stateOf(files: readonly string[]): string {
  const lines = files.map((file) => {
    const { size, mtimeMs, ctimeMs, ino } = statSync(file);
    return `${file}\t${size} ${mtimeMs} ${ctimeMs} ${ino}`;
  });
  return [`${process.version} ${process.execPath}`, ...lines].join('\n');
}

/** The cache, when there is one that was made of the sources as they are now. */
export function currentCodeCache(): string | undefined {
  const directory = codeCacheDirectory();
  if (directory === undefined) return undefined;
  try {
    const state = readFileSync(codeCacheStateFile(directory), 'utf8');
    const files = state.split('\n').slice(1);
    const isCurrent = stateOf(files.map((line) => line.split('\t', 1)[0] ?? '')) === state;
    return isCurrent ? realpathSync(directory) : undefined;
  } catch {
    // There is none yet, or a source is gone.
    return undefined;
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
