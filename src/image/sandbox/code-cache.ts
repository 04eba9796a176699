/**
 * Compiled code for the two Nodes that a server starts as: without it they strip and compile about a hundred sources
 * each time, which takes several times as long as all else that a mount does.
 *
 * A server can write nothing, so its cache is made outside of the sandbox, from the same sources with the same flags
 * (prime.ts), after a mount that had none; it lies beside the one that Node keeps for the rest of Ebb, is its owner's,
 * and is read-only for everybody else. Whatever is wrong with it, Node compiles anew.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { globSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const sources = path.join(import.meta.dirname, '../..');
const keyFile = 'key';

/** Where it is or would be; undefined when Node was not told to keep compiled code. */
export function codeCacheDirectory(): string | undefined {
  const base = process.env['NODE_COMPILE_CACHE'];
  return base === undefined || !path.isAbsolute(base) ? undefined : path.join(base, 'sandbox');
}

/** Its file that is there when the rest is. */
export function codeCacheKeyFile(directory: string): string {
  return path.join(directory, keyFile);
}

/** Another one for every change of a source, of Node, and of the place of the project. */
export function codeCacheKey(): string {
  const hash = createHash('sha256');
  hash.update(`${process.version} ${process.execPath} ${sources}\n`);
  for (const file of globSync('**/*.ts', { cwd: sources }).sort()) {
    const { size, mtimeMs } = statSync(path.join(sources, file));
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

/** Starts making it where it is missing or old; another process does, and nobody waits for it. Never throws. */
export function refreshCodeCache(): void {
  const directory = codeCacheDirectory();
  if (directory === undefined) return;
  try {
    if (readFileSync(codeCacheKeyFile(directory), 'utf8') === codeCacheKey()) return;
  } catch {
    // There is none yet.
  }
  const prime = fileURLToPath(new URL('prime.ts', import.meta.url));
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', prime, directory],
    { cwd: '/', detached: true, stdio: 'ignore' },
  );
  child.on('error', () => undefined);
  child.unref();
}
