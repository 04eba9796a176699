/**
 * What keeps the descriptors of a tree where no service manager does: a shell of its own session that holds them and
 * reads from its supervisor, who never writes. At its end (the kernel's word that he is dead, whatever killed him) it
 * starts another supervisor, which finds the descriptors as one of a service does (kept-tree.ts), and starts one again
 * until that works. It is small (0.1 MiB of its own), is the last that the kernel kills for memory, and nothing in what
 * ps(1) shows of it is called like what it keeps (docs/decisions/0048-a-shell-keeps-the-descriptors.md).
 *
 * There is one keeper at a time. Of the first supervisor it is a child; of those that it has started itself it is the
 * parent, and a dead one is replaced by a child.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { toEbbError } from '../base/errors.ts';
import { processStartTicks } from '../base/run-directory.ts';
import type { ProcessIdentity } from '../base/run-directory.ts';
import { duplicateFd } from '../sys/fd.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import type { Keeping, Log } from './descriptor-store.ts';
import { makePledge } from './pledge.ts';
import type { Pledge } from './pledge.ts';

/** Both ends of the pledge, which the keeper holds as long as it lives. */
const pledgeNames = { ours: 'ebb-keeper-ours', theirs: 'ebb-keeper-theirs' } as const;
/** How often a supervisor looks whether the keeper that has started it still lives. */
const lookEveryMs = 200;
/** Before the next one, when a keeper has died at once. */
const pauseMs = 1_000;

/**
 * On descriptor 3: the options of the next supervisor. A shell that cannot go on (it cannot fork, say) would end, and
 * everybody be let through: it becomes a program that keeps the descriptors, and no more.
 */
const script = `trap '' HUP INT QUIT TERM
trap 'exec sleep infinity' EXIT
read -r end
export EBB_KEEPER_PID=$$
while :; do
  (exec </proc/self/fd/3 3>/dev/null; eval "exec $EBB_KEEPER_STARTS")
  if [ $? -gt 128 ]; then sleep 1; else sleep 5; fi
done`;

type Descriptors = ReadonlyMap<string, { readonly fd: number }>;

export class Keeper implements Keeping {
  /** Called when another process keeps the descriptors than before. */
  onReplaced: () => void = () => undefined;
  readonly #line: string;
  readonly #log: Log;
  readonly #pledge: Pledge;
  /** The keeper that has started this process; it lives as long as it is the parent. */
  readonly #parentPid: number | undefined;
  #descriptors: Descriptors = new Map();
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  private constructor(line: string, pledge: Pledge, parentPid: number | undefined, log: Log) {
    this.#line = line;
    this.#pledge = pledge;
    this.#parentPid = parentPid;
    this.#log = log;
  }

  /**
   * `line`: the options that the next supervisor gets. `kept`: what this one has got; what is the keeper's is taken
   * out.
   */
  static of(line: string, kept: Map<string, OwnedFd>, log: Log): Keeper {
    const pid = process.env['EBB_KEEPER_PID'];
    delete process.env['EBB_KEEPER_PID'];
    delete process.env['EBB_KEEPER_STARTS'];
    const ours = kept.get(pledgeNames.ours);
    const theirs = kept.get(pledgeNames.theirs);
    for (const name of Object.values(pledgeNames)) kept.delete(name);
    const pledge = ours !== undefined && theirs !== undefined ? pledgeOf(ours, theirs) : undefined;
    return new Keeper(
      line,
      pledge ?? makePledge(),
      pid === undefined ? undefined : Number(pid),
      log,
    );
  }

  /** Undefined: there is none just now. */
  get identity(): ProcessIdentity | undefined {
    const pid = this.#isParentAlive() ? this.#parentPid : this.#child?.pid;
    if (pid === undefined) return undefined;
    const startTicks = processStartTicks(pid);
    return startTicks === undefined ? undefined : { pid, startTicks };
  }

  pledge(): Pledge {
    return pledgeOf(duplicateFd(this.#pledge.ours.fd), duplicateFd(this.#pledge.theirs.fd));
  }

  keep(descriptors: Descriptors): Promise<boolean> {
    this.#descriptors = descriptors;
    if (this.#isParentAlive()) {
      this.#timer = setInterval(() => this.#look(), lookEveryMs).unref();
    } else this.#spawn();
    return Promise.resolve(true);
  }

  /** Nobody starts another supervisor any more. Resolves when nobody but this process has the descriptors. */
  async drop(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const { promise, resolve } = Promise.withResolvers<void>();
      child.once('exit', () => resolve());
      child.ref();
      child.kill('SIGKILL');
      await promise;
    }
    // As long as it is the parent its number is nobody else's.
    if (this.#isParentAlive()) process.kill(process.ppid, 'SIGKILL');
    while (this.#isParentAlive()) await sleep(10);
    this.#pledge[Symbol.dispose]();
  }

  started(): Promise<void> {
    return Promise.resolve();
  }

  #isParentAlive(): boolean {
    return this.#parentPid !== undefined && process.ppid === this.#parentPid;
  }

  #look(): void {
    if (this.#isOver || this.#isParentAlive()) return;
    clearTimeout(this.#timer);
    this.#replace('it is gone');
  }

  #replace(how: string): void {
    this.#log('warn', `who kept the tree's descriptors has ended (${how}): another one keeps them`);
    this.#spawn();
    this.onReplaced();
  }

  #spawn(): void {
    const startedAtMs = performance.now();
    const again = (how: string): void => {
      if (this.#isOver) return;
      this.#child = undefined;
      if (performance.now() - startedAtMs > pauseMs) return this.#replace(how);
      this.#timer = setTimeout(() => this.#replace(how), pauseMs).unref();
    };
    try {
      this.#child = start(this.#line, this.#descriptors, this.#pledge);
      this.#child.once('error', (error) => again(error.message));
      this.#child.once('exit', (code, signal) => again(signal ?? `exit code ${code}`));
    } catch (error) {
      again(toEbbError(error).message);
    }
  }
}

function pledgeOf(ours: OwnedFd, theirs: OwnedFd): Pledge {
  return {
    ours,
    theirs,
    [Symbol.dispose]() {
      ours.close();
      theirs.close();
    },
  };
}

/** It outlives this process. */
function start(line: string, descriptors: Descriptors, pledge: Pledge): ChildProcess {
  using options = createMemoryFile('ebb-options');
  writeSync(options.fd, line);
  const kept = new Map(descriptors)
    .set(pledgeNames.ours, pledge.ours)
    .set(pledgeNames.theirs, pledge.theirs);
  const command = [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
  const child = spawn('/bin/sh', ['-c', script], {
    cwd: '/',
    detached: true,
    env: {
      ...process.env,
      EBB_KEPT_DESCRIPTORS: [...kept.keys()].join(':'),
      EBB_KEEPER_STARTS: command.map(quoted).join(' '),
    },
    // From 4 on, as a supervisor expects them (kept-tree.ts).
    stdio: ['pipe', 'inherit', 'inherit', options.fd, ...[...kept.values()].map(({ fd }) => fd)],
  });
  child.unref();
  return child;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
