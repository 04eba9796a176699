/**
 * What a supervisor leaves with the service manager (descriptor-store.ts), and how its successor goes on with it.
 * Besides the descriptors of the guard that is a file in memory: what a successor has to know and cannot find out
 * while the tree is shown, and which processes have to be gone before it may read the groups.
 */
import { ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';
import { processStartTicks } from '../base/run-directory.ts';
import { OwnedFd, setCloseOnExec } from '../sys/fd.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import { openFilesLimit } from '../sys/process.ts';
import { Denier } from './denier.ts';
import { isPledgeName } from './descriptor-store.ts';
import type { Log } from './descriptor-store.ts';
import { Exposure } from './exposure.ts';
import { denyWhileReachable } from './farewell.ts';
import { Guard } from './guard.ts';
import type { GuardPart } from './guard.ts';
import type { Opaque } from './messages.ts';
import { untilReleased } from './pledge.ts';
import type { Shown } from './reachability.ts';
import type { Ready } from './tree-supervisor.ts';

/** A successor of another version understands this number or refuses. */
const factsVersion = 1;
/** What processes get to die after SIGKILL: one may be writing to a slow disk. */
const deathMaxMs = 60_000;
/** Descriptors that `ebb attach -f` was given by systemd come behind the channel of its supervisor. */
const firstDescriptor = 4;

const guardNames: Readonly<Record<GuardPart, string>> = {
  access: 'ebb-access',
  open: 'ebb-open',
  changes: 'ebb-changes',
  privateMount: 'ebb-mount',
  lock: 'ebb-lock',
};
const factsName = 'ebb-facts';

export interface TreeFacts {
  readonly tree: string;
  readonly prepared: Opaque & { readonly treeId: string; readonly ebbDirectory: string };
  readonly startedAtMs: number;
  readonly ready: Omit<Ready, 'kind'>;
  readonly shown: Shown;
}

/** Five words at the start: supervisor, its start; daemon, its start; restarts. One write, so whole at any time. */
const headerWords = 5;
const headerBytes = headerWords * 8;

export class FactsFile implements Disposable {
  readonly #memory: OwnedFd;

  constructor(memory: OwnedFd = createMemoryFile('ebb-facts')) {
    this.#memory = memory;
  }

  get fd(): number {
    return this.#memory.fd;
  }

  /** The processes that use the guard from now on. */
  noteProcesses(daemonPid: number | undefined, restarts: number): void {
    const words = [process.pid, startOf(process.pid), daemonPid ?? 0, startOf(daemonPid), restarts];
    writeSync(this.#memory.fd, BigInt64Array.from(words.map(BigInt)), 0, headerBytes, 0);
  }

  processes(): { readonly running: readonly number[]; readonly restarts: number } {
    const words = new BigInt64Array(headerWords);
    readSync(this.#memory.fd, words, 0, headerBytes, 0);
    const [supervisor = 0, supervisorStart, daemon = 0, daemonStart, restarts = 0] = [...words].map(
      Number,
    );
    const running: number[] = [];
    if (startOf(supervisor) === supervisorStart && supervisor > 0) running.push(supervisor);
    if (startOf(daemon) === daemonStart && daemon > 0) running.push(daemon);
    return { running, restarts };
  }

  /** Before it is given away. */
  write(facts: TreeFacts): void {
    const text = Buffer.from(JSON.stringify({ version: factsVersion, ...facts }));
    ftruncateSync(this.#memory.fd, headerBytes);
    writeSync(this.#memory.fd, text, 0, text.length, headerBytes);
  }

  /** Throws EPROTO for what another version has written. */
  read(): TreeFacts {
    const bytes = readFileSync(`/proc/self/fd/${this.#memory.fd}`);
    let facts: Partial<TreeFacts> & { readonly version?: unknown } = {};
    try {
      facts = JSON.parse(bytes.subarray(headerBytes).toString()) as typeof facts;
    } catch {
      // No version either.
    }
    if (facts.version === factsVersion) return facts as TreeFacts;
    throw ebbError(
      'EPROTO',
      'another version of Ebb has attached this tree: stop its service, then start it',
    );
  }

  [Symbol.dispose](): void {
    this.#memory.close();
  }
}

function startOf(pid: number | undefined): number {
  return (pid === undefined ? undefined : processStartTicks(pid)) ?? 0;
}

/** What to keep of a tree. */
export function descriptorsToKeep(
  guard: Guard,
  facts: FactsFile,
): ReadonlyMap<string, { readonly fd: number }> {
  const kept = new Map<string, { readonly fd: number }>([[factsName, facts]]);
  for (const [part, name] of Object.entries(guardNames)) kept.set(name, guard[part as GuardPart]);
  return kept;
}

/** What the service manager gave, by name, owned and close-on-exec; several of one name: the first. */
export function takeKept(): ReadonlyMap<string, OwnedFd> {
  const names = process.env['EBB_KEPT_DESCRIPTORS'];
  delete process.env['EBB_KEPT_DESCRIPTORS'];
  const kept = new Map<string, OwnedFd>();
  for (const [index, name] of (names?.split(':') ?? []).entries()) {
    const descriptor = new OwnedFd(firstDescriptor + index);
    setCloseOnExec(descriptor.fd);
    if (kept.has(name)) descriptor.close();
    else kept.set(name, descriptor);
  }
  return kept;
}

export interface KeptTree {
  readonly guard: Guard;
  readonly facts: TreeFacts;
  readonly factsFile: FactsFile;
  readonly exposure: Exposure;
  /** Daemons that died before the last one. */
  readonly restarts: number;
  /** Names of pledges that no process trusts in any more. */
  readonly former: readonly string[];
}

/**
 * Takes over what `kept` holds, and ends what is left of the processes before: from then on nobody else reads the
 * groups. Undefined: there is nothing to go on with, and nobody can reach the tree; all is closed. Throws EAGAIN when
 * somebody of before does not die, EPROTO for another version or another tree; nothing is closed or changed then.
 */
export async function resumeKept(
  kept: ReadonlyMap<string, OwnedFd>,
  tree: string,
  log: Log,
): Promise<KeptTree | undefined> {
  const former = [...kept.keys()].filter(isPledgeName);
  const memory = kept.get(factsName);
  const parts = guardParts(kept);
  if (memory === undefined || parts === undefined || former.length === 0) {
    // Never promised to anybody: who was there did without.
    for (const descriptor of kept.values()) descriptor.close();
    return undefined;
  }
  const factsFile = new FactsFile(memory);
  const facts = factsFile.read();
  if (facts.tree !== tree) {
    throw ebbError('EPROTO', `the service still has ${facts.tree}: stop it, then start it`);
  }
  const { running, restarts } = factsFile.processes();
  for (const pid of running) kill(pid);
  for (const name of former) await allDead(kept.get(name) as OwnedFd);
  const guard = Guard.adopt(parts);
  const exposure = Exposure.adopt(tree);
  if (exposure?.shown.mountId === facts.shown.mountId) {
    return { guard, facts, factsFile, exposure, restarts, former };
  }
  log('warn', `${tree} was taken away by somebody else; who still has files open gets EIO`);
  guard.sweep(openFilesLimit().soft);
  const denier = new Denier([guard.access, guard.open], facts.prepared.treeId, (message) =>
    log('error', message),
  );
  await denyWhileReachable(facts.shown, { tree, denier, log });
  guard[Symbol.dispose]();
  factsFile[Symbol.dispose]();
  return undefined;
}

function guardParts(
  kept: ReadonlyMap<string, OwnedFd>,
): Readonly<Record<GuardPart, OwnedFd>> | undefined {
  const parts: Partial<Record<GuardPart, OwnedFd>> = {};
  for (const [part, name] of Object.entries(guardNames)) {
    const descriptor = kept.get(name);
    if (descriptor === undefined) return undefined;
    parts[part as GuardPart] = descriptor;
  }
  return parts as Record<GuardPart, OwnedFd>;
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (toEbbError(error).code !== 'ESRCH') throw error;
  }
}

/** The manager's end of a pledge hangs up with the last thread of the last process that had the other. */
async function allDead(pledge: OwnedFd): Promise<void> {
  const isOver = await untilReleased(pledge.fd, deathMaxMs);
  if (!isOver) throw ebbError('EAGAIN', 'a process of the supervisor before this one still runs');
  pledge.close();
}
