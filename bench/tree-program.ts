/**
 * Who does only the work of a cold read in a native tree: bench/peers/tree.c, and bare Node (tree-bare.ts). They are
 * the limits that Ebb is measured against, on a file system of the same kind in the same run.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { killAtExit, killGroup, runOk } from '../test/support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../test/support/temporary.ts';
import { callerProcessor, dropCaches, median, pinProcess, processorPlaces } from './measure.ts';
import type { Reader } from './measure.ts';
import { content } from './origin.ts';
import type { BenchContext, Sample } from './scenario.ts';

/** `c` and `node`: the two that do only the work. */
export type TreePeer = 'ebb' | 'c' | 'node';

export interface TreeProgramOptions {
  readonly peer: 'c' | 'node';
  readonly imageBytes: number;
  readonly firstByteRuns: number;
}

/** At most as many as Ebb opens to one server. */
const connections = '8';
const eventReads = 10_000;
/** What is asked for at a time. */
const chunkBytes = 256 * 1024;

interface Copied {
  readonly mbPerSecond: number;
  /** Of all but the reader, s/GiB. */
  readonly cpu: number;
}

/** Metrics of `tree-cold`: of bare Node those of single events alone. */
export async function measureTreeProgram(
  context: BenchContext,
  { peer, imageBytes, firstByteRuns }: TreeProgramOptions,
): Promise<Sample> {
  const { origin } = context;
  await using tools = await temporaryDirectory('tree-program');
  await using filesystem = await loopFilesystem({ type: 'xfs', sizeBytes: imageBytes });
  const program = path.join(tools.path, 'tree');
  const code = path.join(import.meta.dirname, 'peers/tree.c');
  await runOk('gcc', ['-O2', '-Wall', '-Wextra', '-pthread', '-o', program, code], {
    debianPackage: 'gcc',
  });
  const source = path.join(origin.native, content.large);
  const target = path.join(filesystem.path, 'stub');
  const bytes = String(statSync(source).size);
  const poison = (): Promise<unknown> => runOk(program, ['poison', target, bytes]);
  await poison();
  const bare = path.join(import.meta.dirname, 'tree-bare.ts');
  const command = peer === 'c' ? [program, 'serve'] : [process.execPath, bare];
  const events = await firstBytes(context, [...command, source, target], firstByteRuns);
  if (peer === 'node') return events;
  const copied = async (parameters: readonly string[]): Promise<Copied> => {
    await poison();
    dropCaches();
    return JSON.parse((await runOk(program, parameters)).stdout.toString()) as Copied;
  };
  const directory = await copied(['copy', source, target]);
  const url = new URL(content.large, origin.url(0));
  const web = await copied(['web', url.port, url.pathname, bytes, target, connections]);
  return {
    ...events,
    directory: directory.mbPerSecond,
    directoryCpu: directory.cpu,
    web: web.mbPerSecond,
    webCpu: web.cpu,
  };
}

/** The first bytes of one chunk after the other, with a process of Node in between, as `ebb release` is one. */
async function firstBytes(
  { reader }: BenchContext,
  command: readonly string[],
  runs: number,
): Promise<Sample> {
  const target = command.at(-1) ?? '';
  await using served = await answerer(command);
  const firsts: number[] = [];
  for (let run = 0; run < runs; run += 1) {
    firsts.push((await reader.run('first', target, run * chunkBytes)).seconds * 1_000);
    await runOk(process.execPath, ['-e', '0']);
  }
  const events = await eventTimes(reader, served.pid, target);
  return { first: firsts[0] ?? Number.NaN, firsts: median(firsts.slice(1)), ...events };
}

/** Medians of reads of what is here, each of which raises an event. µs. */
export async function eventTimes(reader: Reader, pid: number, file: string): Promise<Sample> {
  const sample: Record<string, number> = {};
  for (const { place, server } of processorPlaces) {
    pinProcess(pid, server);
    const { seconds } = await reader.run('same', file, eventReads, { processor: callerProcessor });
    sample[`event${place}`] = seconds * 1e6;
  }
  pinProcess(pid, undefined);
  return sample;
}

interface Answerer extends AsyncDisposable {
  readonly pid: number;
}

/** Answers events until it is disposed: its groups end with it. */
async function answerer([program = '', ...parameters]: readonly string[]): Promise<Answerer> {
  const child = spawn(program, parameters, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  killAtExit(child);
  const ended = once(child, 'exit');
  const line = once(createInterface(child.stdout), 'line');
  if (((await Promise.race([line, ended])) as unknown[])[0] !== 'ready') {
    throw new Error(`${program} ${parameters.join(' ')} does not serve`);
  }
  return {
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      killGroup(child);
      await ended;
    },
  };
}
