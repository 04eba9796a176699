/** What tests have in common in which daemons, of trees their supervisors too, are killed under readers. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mountAt, readMountInfo } from '../../src/base/mount-info.ts';
import { compileHelper } from '../probes/probe.ts';
import type { AttachedTree } from './attached-tree.ts';
import { CorpusWriter } from './corpus.ts';
import { startStress } from './hammer.ts';
import type { HammerReport, Stress } from './hammer.ts';
import { killAtExit, run } from './run.ts';
import { loopFilesystem, temporaryDirectory } from './temporary.ts';
import { waitFor } from './wait-for.ts';

/** By number. EIO of what the dead ones had taken; EINTR of a call that was cut short. */
export const honestErrors: ReadonlySet<string> = new Set(['5', '4']);

/** No byte was wrong, and nobody was told anything but this. Sums of all readers. */
export function assertHonest(
  reports: readonly HammerReport[],
  said: string,
  allowed: ReadonlySet<string> = honestErrors,
): { readonly reads: number; readonly denied: number } {
  let reads = 0;
  let denied = 0;
  for (const report of reports) {
    assert.equal(report.wrong, undefined, said);
    reads += report.reads;
    denied += report.errors['5'] ?? 0;
    for (const errno of Object.keys(report.errors)) {
      assert.ok(allowed.has(errno), `${said}: a reader got errno ${errno}`);
    }
  }
  return { reads, denied };
}

/** All of these files are what the source has. */
export async function assertSameFiles(
  tree: Pick<AttachedTree, 'path' | 'logTail'>,
  source: string,
  names: readonly string[],
  said: string,
): Promise<void> {
  const script = 'cd "$0" && for f; do cmp -- "$f" "$SOURCE/$f" || exit 1; done';
  const { code, stderr } = await run('/bin/sh', ['-c', script, tree.path, ...names], {
    timeoutMs: 60_000,
    env: { SOURCE: source },
  });
  if (code === 0) return;
  assert.fail(`${said}: ${stderr.toString()}\n${await tree.logTail()}`);
}

/** The id of the mount that users see. */
export function shownMount(tree: AttachedTree): number | undefined {
  return mountAt(readMountInfo(), tree.path)?.mountId;
}

/** A directory to attach and what reads it. */
export interface DeathScene extends AsyncDisposable {
  readonly directory: string;
  readonly source: string;
  /** Twelve files of 1 KB to 2 MB in three directories, the last one the largest. */
  readonly names: readonly string[];
  /** test/probes/hammer.c. */
  readonly helper: string;
  assertSame(tree: AttachedTree, said: string): Promise<void>;
  /** Starts readers of a cold tree; resolves when more than so many bytes have come for them. */
  read(tree: AttachedTree, options: ReadOptions): Promise<Stress>;
}

interface ReadOptions {
  readonly readers: number;
  readonly seed: number;
  readonly untilMoreThanBytes: number;
}

export async function deathScene(called: string): Promise<DeathScene> {
  const directory = await temporaryDirectory(called);
  const source = path.join(directory.path, 'source');
  const names = Array.from({ length: 12 }, (_unused, index) => `d${index % 3}/file-${index}.bin`);
  const writer = new CorpusWriter(source);
  for (const [index, name] of names.entries()) writer.bytes(name, 1_000 * 2 ** index + 7);
  const helper = await compileHelper(directory.path, 'hammer');
  return {
    directory: directory.path,
    source,
    names,
    helper,
    assertSame: (tree, said) => assertSameFiles(tree, source, names, said),
    async read(tree, { readers, seed, untilMoreThanBytes }) {
      const { recalledBytes } = await tree.status();
      await using stack = new AsyncDisposableStack();
      const place = { helper, mount: tree.path, source, names };
      const stress = stack.use(startStress({ ...place, readers, seconds: 600, seed }));
      const enoughBytes = recalledBytes + untilMoreThanBytes;
      await waitFor(async () => (await tree.status()).recalledBytes > enoughBytes, {
        what: 'somebody to read',
        timeoutMs: 60_000,
        intervalMs: 1,
      });
      stack.move();
      return stress;
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

export interface VainAttach extends AsyncDisposable {
  readonly filesystem: string;
  readonly tree: string;
  /** Of the command. */
  readonly pid: number;
  /** The script that is there instead of the daemon's. */
  readonly daemonScript: string;
  /** The exit code of the command. */
  readonly ended: Promise<number | null>;
}

/** `ebb attach FLAGS TREE SOURCE` on ext4 with a daemon that never says that it serves, but does what `script` says. */
export async function attachInVain(
  source: string,
  script: string,
  flags: readonly string[] = [],
): Promise<VainAttach> {
  await using stack = new AsyncDisposableStack();
  const filesystem = stack.use(await loopFilesystem({ type: 'ext4', sizeBytes: 256 * 1024 ** 2 }));
  const place = stack.use(await temporaryDirectory('vain'));
  const tree = path.join(filesystem.path, 'tree');
  mkdirSync(tree);
  const daemonScript = path.join(place.path, 'daemon.ts');
  writeFileSync(daemonScript, script);
  const state = path.join(place.path, 'state');
  const parameters = ['attach', ...flags, '--state', state, tree, source];
  const child = spawn(path.join(import.meta.dirname, '../../ebb'), parameters, {
    detached: true,
    stdio: 'ignore',
    env: {
      ...process.env,
      EBB_NATIVE_MAIN: daemonScript,
      EBB_RUN_DIR: path.join(place.path, 'run'),
    },
  });
  killAtExit(child);
  const owned = stack.move();
  return {
    filesystem: filesystem.path,
    tree,
    pid: child.pid ?? 0,
    daemonScript,
    ended: new Promise((resolve) => child.once('exit', resolve)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
