/** Entry point that makes the code cache (code-cache.ts) in the directory that is its argument, and ends. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { ebbError } from '../../base/errors.ts';
import { bundle } from './bundle.ts';
import {
  codeCacheState,
  codeCacheStateFile,
  enterScript,
  serverScript,
  stateOfSources,
} from './code-cache.ts';
import { codeCacheEnvironment, launcherFlags, serverFlags } from './node-flags.ts';

/** A lock of someone who died. */
const lockMaxMs = 600_000;

const scripts = [
  { ...enterScript, flags: launcherFlags, argument: '' },
  { ...serverScript, flags: serverFlags, argument: JSON.stringify({ mode: 'load' }) },
];

/** Writes both, and runs them until everything is loaded. Returns their state. Throws EIO when one does not load. */
function compileInto(directory: string): string {
  const files = new Set(scripts.flatMap(({ source }) => bundle(source).files));
  // Before they are read: who changes one meanwhile makes this cache an old one.
  const sources = stateOfSources([...files]);
  for (const { source, name, flags, argument } of scripts) {
    writeFileSync(path.join(directory, name), bundle(source).code);
    const words = [...flags, path.join(directory, name), argument];
    const { status } = spawnSync(process.execPath, words, {
      env: codeCacheEnvironment(directory),
      stdio: 'ignore',
    });
    if (status !== 0) throw ebbError('EIO', `${name} made of ${source} does not load.`);
  }
  return codeCacheState(directory, sources);
}

/** Everybody may read it, as the sources. */
function publish(made: string): void {
  chmodSync(made, 0o755);
  for (const entry of readdirSync(made, { recursive: true, withFileTypes: true })) {
    chmodSync(path.join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}

/** On the disk, with all that is in it: a power cut leaves it whole, or none of it. */
function syncAll(made: string): void {
  const inside = readdirSync(made, { recursive: true, encoding: 'utf8' });
  for (const name of [...inside, '.']) {
    const fd = openSync(path.join(made, name), 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

/** Of one that was killed: under the lock nobody works there. */
function removeLeft(directory: string): void {
  const prefix = `${path.basename(directory)}.`;
  const above = path.dirname(directory);
  for (const name of readdirSync(above)) {
    if (!name.startsWith(prefix) || name.endsWith('.lock')) continue;
    rmSync(path.join(above, name), { recursive: true, force: true });
  }
}

function make(directory: string): void {
  removeLeft(directory);
  const made = mkdtempSync(`${directory}.`);
  try {
    const state = compileInto(made);
    publish(made);
    writeFileSync(codeCacheStateFile(made), state);
    syncAll(made);
    rmSync(directory, { recursive: true, force: true });
    renameSync(made, directory);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** One at a time. */
function underLock(lock: string, act: () => void): void {
  try {
    closeSync(openSync(lock, 'wx', 0o600));
  } catch {
    const { mtimeMs } = statSync(lock, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() };
    if (Date.now() - mtimeMs > lockMaxMs) rmSync(lock, { force: true });
    return;
  }
  try {
    act();
  } finally {
    rmSync(lock, { force: true });
  }
}

const [directory = ''] = process.argv.slice(2);
process.umask(0o022);
underLock(`${directory}.lock`, () => make(directory));
