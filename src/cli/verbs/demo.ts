/** `ebb demo`: serve a directory of this machine, mount it, show what happens, clean up. */
import { mkdtempSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ebbError } from '../../base/errors.ts';
import { mountAt, readMountInfo } from '../../base/mount-info.ts';
import { runFiles } from '../../base/run-directory.ts';
import { makeDemoContent } from '../demo/content.ts';
import { runEbb, startDemoServer } from '../demo/processes.ts';
import { takeTour } from '../demo/tour.ts';
import { absolutePath } from '../target.ts';
import { visible } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { parseSize } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface DemoOptions {
  readonly once?: boolean;
  readonly size: string;
}

/** How deep a directory given by the user is searched for a big file. */
const searchDepthMax = 3;
const searchEntriesMax = 10_000;

export const demo: Verb = {
  name: 'demo',
  summary: 'show what Ebb does, on this machine, in a minute',
  synopsis: ['[--once] [--size SIZE] [DIR]'],
  description: [
    'Serves a directory over HTTP on the loopback interface, mounts it with ebb mount, and shows with times what ' +
      'happens: names at once, the first byte of a big file without the rest, then the whole file, then the ' +
      'whole file again at the speed of a local one. Everything is then left for you to play with until Ctrl-C, ' +
      'after which nothing of it remains.',
    'Without DIR the demo makes a directory with one big and some small files. DIR is only read. Nothing but ' +
      'this machine is talked to.',
  ],
  examples: [
    { command: 'ebb demo', explanation: 'The tour; the mount stays until Ctrl-C.' },
    { command: 'ebb demo --once ~/Videos', explanation: 'The tour over your own files.' },
  ],
  define: (command) => {
    command
      .argument('[DIR]')
      .option('--once', 'Ends after the tour instead of waiting for Ctrl-C.')
      .option('--size <SIZE>', 'Size of the big file that the demo makes; default 256M.', '256M');
  },
  run: async (command, terminal) => {
    const options = command.opts<DemoOptions>();
    const sizeBytes = parseSize(options.size, '--size');
    const stopped = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => stopped.abort());
    }
    const [directory] = command.args;
    const given = directory === undefined ? undefined : absolutePath(directory);
    if (given !== undefined && statSync(given, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw ebbError('ENOTDIR', `${given} is not a directory.`);
    }
    await perform(given, sizeBytes, options.once === true, stopped.signal, terminal);
    return ExitCode.done;
  },
};

async function perform(
  given: string | undefined,
  sizeBytes: number,
  once: boolean,
  stopped: AbortSignal,
  terminal: Terminal,
): Promise<void> {
  // Disposed in reverse order: unmount, end the server, remove the files.
  await using cleanup = new AsyncDisposableStack();
  const temporary = mkdtempSync(path.join(tmpdir(), 'ebb-demo-'));
  cleanup.defer(() => {
    // Never remove through a mount that could not be taken away.
    if (!isMounted(path.join(temporary, 'mount'))) {
      rmSync(temporary, { recursive: true, force: true });
    }
  });
  const [served, mountPoint, cache] = ['served', 'mount', 'cache'].map((name) => {
    const made = path.join(temporary, name);
    mkdirSync(made);
    return made;
  }) as [string, string, string];
  const source = given ?? served;
  const bigFile =
    given === undefined ? await makeDemoContent(served, sizeBytes) : await biggestFile(given);
  const server = cleanup.use(await startDemoServer(source));
  terminal.print(`Serving ${visible(source)} at ${server.url}`);
  if (stopped.aborted) return;
  cleanup.defer(() => unmount(mountPoint, terminal));
  const mounted = await runEbb(['mount', '--cache-dir', cache, server.url, mountPoint]);
  if (mounted.code !== 0) {
    terminal.warn(mounted.output);
    throw ebbError(
      'EIO',
      'The demo cannot go on without its mount; ebb doctor says what is missing.',
    );
  }
  terminal.print(mounted.output);
  if (stopped.aborted) return;
  await untilStopped(takeTour({ mountPoint, served: source, bigFile }, server, terminal), stopped);
  if (once || stopped.aborted) return;
  terminal.print(
    `\nTry it: ebb ls -h ${mountPoint}   ebb explain ${path.join(mountPoint, bigFile)}` +
      `   ebb release ${mountPoint}\nCtrl-C unmounts and removes everything.`,
  );
  await untilStopped(new Promise<never>(() => {}), stopped);
}

/** Waits for work, or for the signal; what the work does after the signal is of no interest. */
async function untilStopped(work: Promise<unknown>, stopped: AbortSignal): Promise<void> {
  // A timer keeps the process alive while it waits for a signal only.
  const alive = setInterval(() => {}, 60_000);
  try {
    const signalled = new Promise<void>((resolve) => {
      stopped.addEventListener('abort', () => resolve(), { once: true });
    });
    work.catch(() => {});
    await Promise.race([work, signalled]);
  } finally {
    clearInterval(alive);
  }
}

/** Takes the mount away whatever happened: in good order, else lazily; nothing mounted is fine, too. */
async function unmount(mountPoint: string, terminal: Terminal): Promise<void> {
  using _ = removeLogs(mountPoint);
  if (!isMounted(mountPoint)) return;
  const done = await runEbb(['umount', mountPoint]);
  if (done.code === 0) return;
  const lazy = await runEbb(['umount', '-l', mountPoint]);
  if (lazy.code !== 0) terminal.warn(lazy.output);
}

/** What a daemon leaves in the run directory is of no use once its demo is over. */
function removeLogs(mountPoint: string): Disposable {
  const { log } = runFiles(mountPoint);
  return {
    [Symbol.dispose]: () => {
      for (const file of [log, `${log}.1`]) rmSync(file, { force: true });
    },
  };
}

function isMounted(mountPoint: string): boolean {
  return mountAt(readMountInfo(), mountPoint) !== undefined;
}

/** The biggest file near the top of a directory. */
async function biggestFile(directory: string): Promise<string> {
  let best = { name: '', sizeBytes: -1 };
  let seen = 0;
  const search = async (below: string, depth: number): Promise<void> => {
    const entries = await readdir(path.join(directory, below), { withFileTypes: true });
    for (const entry of entries) {
      seen += 1;
      if (seen > searchEntriesMax) return;
      const name = path.join(below, entry.name);
      if (entry.isDirectory() && depth < searchDepthMax) await search(name, depth + 1);
      if (!entry.isFile()) continue;
      const { size } = await stat(path.join(directory, name));
      if (size > best.sizeBytes) best = { name, sizeBytes: size };
    }
  };
  await search('', 0);
  if (best.sizeBytes <= 0) {
    throw ebbError(
      'ENOENT',
      `There is no file with content in ${directory} to show anything with.`,
    );
  }
  return best.name;
}
