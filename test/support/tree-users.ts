/** Processes that use a tree (tree-user.ts). */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { noise } from './corpus.ts';
import type { CorpusWriter } from './corpus.ts';
import { patience } from './patience.ts';
import { killAtExit, killGroup } from './run.ts';
import type { UserReport } from './tree-user.ts';

export interface TreeUsers extends AsyncDisposable {
  /** Asks them to compare all with their models and to end. SIGKILL after `timeoutMs`, and it throws. */
  stop(timeoutMs: number): Promise<UserReport[]>;
  /** Resolves when each has made as many calls as prove something, or has ended. */
  haveWorked(): Promise<void>;
  /** True as soon as one has ended by itself: it found something wrong. */
  readonly hasEnded: boolean;
}

const script = path.join(import.meta.dirname, 'tree-user.ts');
const filesPerUser = 16;

/** `names`, and files of each user in his directory: of 512 bytes to 2 MiB, the same for the same `seed`. */
export function writeSharedAndOwn(
  writer: CorpusWriter,
  seed: string,
  names: readonly string[],
  userDirectories: readonly string[],
): void {
  const sizes = noise(seed, 1_000);
  const add = (name: string, index: number): void => {
    const magnitude = 2 ** (9 + (index % 12));
    writer.bytes(name, magnitude + (sizes.readUInt16LE(index * 2) % magnitude));
  };
  for (const [index, name] of names.entries()) add(name, index);
  for (const [user, directory] of userDirectories.entries()) {
    for (let index = 0; index < filesPerUser; index += 1) {
      add(`${directory}/file ${index}`, user * filesPerUser + index);
    }
  }
}

/** One for each of `directories`, names relative to both `tree` and `source`; all at work when it resolves. */
export async function startTreeUsers(
  tree: string,
  source: string,
  directories: readonly string[],
  seed: number,
): Promise<TreeUsers> {
  const children = directories.map((directory, index) => {
    const number = String(seed * 1_000 + index + 1);
    const child = spawn(process.execPath, [script, tree, source, directory, number], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      detached: true,
    });
    killAtExit(child);
    const worked = new Promise<void>((resolve) => {
      child.on('message', (message) => message === 'worked' && resolve());
      child.once('exit', () => resolve());
    });
    return { child, begun: once(child, 'message'), worked, report: reportOf(child) };
  });
  await Promise.all(children.map(({ begun }) => begun));
  return {
    async stop(timeoutMs) {
      for (const { child } of children) child.kill('SIGTERM');
      const kill = (): void => children.forEach(({ child }) => killGroup(child));
      const timer = setTimeout(kill, patience * timeoutMs);
      try {
        return await Promise.all(children.map(({ report }) => report));
      } finally {
        clearTimeout(timer);
      }
    },
    async haveWorked() {
      await Promise.all(children.map(({ worked }) => worked));
    },
    get hasEnded() {
      return children.some(({ child }) => child.exitCode !== null || child.signalCode !== null);
    },
    async [Symbol.asyncDispose]() {
      for (const { child } of children) killGroup(child);
      await Promise.allSettled(children.map(({ report }) => report));
    },
  };
}

async function reportOf(child: ChildProcess): Promise<UserReport> {
  if (child.stdout === null) throw new Error('a user of the tree has no output');
  const said = await text(child.stdout);
  if (said === '') throw new Error('a user of the tree ended without a word (stuck in a call?)');
  return JSON.parse(said) as UserReport;
}
