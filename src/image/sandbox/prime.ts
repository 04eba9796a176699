/** Entry point that makes the code cache (code-cache.ts) in the directory that is its argument, and ends. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { codeCacheKey, codeCacheKeyFile } from './code-cache.ts';
import { launcherFlags, serverFlags } from './node-flags.ts';

/** Who a server is in its namespaces: Node keeps the code of each user apart, by the end of a directory's name. */
const nobody = 65_534;
/** A lock of someone who died. */
const lockMaxMs = 600_000;

const scripts = [
  { flags: launcherFlags, script: 'enter.ts', argument: '' },
  { flags: serverFlags, script: '../server/main.ts', argument: JSON.stringify({ mode: 'load' }) },
];

/** Runs both up to the point where everything is loaded. */
function compileInto(directory: string): void {
  for (const { flags, script, argument } of scripts) {
    const file = fileURLToPath(new URL(script, import.meta.url));
    spawnSync(process.execPath, [...flags, file, argument], {
      env: { NODE_COMPILE_CACHE: directory },
      stdio: 'ignore',
    });
  }
}

/** Everybody may read it, as the sources; the names are for nobody. */
function publish(made: string): void {
  for (const name of readdirSync(made)) {
    const own = path.join(made, name);
    const theirs = path.join(made, name.replace(/-\d+$/, `-${nobody}`));
    if (own !== theirs) renameSync(own, theirs);
    chmodSync(theirs, 0o755);
    for (const file of readdirSync(theirs)) chmodSync(path.join(theirs, file), 0o644);
  }
  chmodSync(made, 0o755);
}

function make(directory: string): void {
  const made = mkdtempSync(`${directory}.`);
  try {
    // Before they are loaded: who changes a source meanwhile makes this cache an old one.
    const key = codeCacheKey();
    compileInto(made);
    publish(made);
    writeFileSync(codeCacheKeyFile(made), key);
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
