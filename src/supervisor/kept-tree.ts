/**
 * What a supervisor leaves with the service manager (descriptor-store.ts) or its keeper (keeper.ts), and how its
 * successor goes on with it, or ends it: whatever is wrong, the tree is taken away, and nobody is let through to it.
 */
import { ebbError } from '../base/errors.ts';
import { Group } from '../fanotify/group.ts';
import { OwnedFd, setCloseOnExec } from '../sys/fd.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import { openFilesLimit } from '../sys/process.ts';
import { Denier } from './denier.ts';
import { isPledgeName } from './descriptor-store.ts';
import type { Keeping, Log } from './descriptor-store.ts';
import { Exposure } from './exposure.ts';
import { FactsFile } from './facts-file.ts';
import type { TreeFacts } from './facts-file.ts';
import { denyWhileReachable, letGo } from './farewell.ts';
import { Guard } from './guard.ts';
import type { GuardPart } from './guard.ts';
import { takeTenure } from './tenure.ts';

/** Descriptors that were kept come behind the channel of a supervisor. */
const firstDescriptor = 4;

const guardNames: Readonly<Record<GuardPart, string>> = {
  access: 'ebb-access',
  open: 'ebb-open',
  changes: 'ebb-changes',
  privateMount: 'ebb-mount',
  lock: 'ebb-lock',
};
const factsName = 'ebb-facts';
/** Of the memory, and of what is kept of it. */
export const changeJournalName = 'ebb-change-journal';

/** What to keep of a tree. The facts first: whoever finds anything else of it finds them, too. */
export function descriptorsToKeep(
  guard: Guard,
  facts: FactsFile,
  changeJournal: { readonly fd: number },
): ReadonlyMap<string, { readonly fd: number }> {
  const kept = new Map<string, { readonly fd: number }>([[factsName, facts]]);
  for (const [part, name] of Object.entries(guardNames)) kept.set(name, guard[part as GuardPart]);
  kept.set(changeJournalName, changeJournal);
  return kept;
}

type Kept = ReadonlyMap<string, OwnedFd>;

/** What the service manager or the keeper gave, by name, owned and close-on-exec; several of one name: the first. */
export function takeKept(): Map<string, OwnedFd> {
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
  readonly changeJournal: OwnedFd;
  readonly tenure: OwnedFd;
  readonly exposure: Exposure;
  /** Daemons that died before the last one. */
  readonly restarts: number;
  /** Names of pledges that no process trusts in any more. */
  readonly former: readonly string[];
}

export interface Wanted {
  readonly tree: string;
  /** As in `TreeFacts`. */
  readonly namedRemote: string | undefined;
  /** Why it is not wanted after all. */
  readonly refused: () => string | undefined;
  /** False: another supervisor is being started in the place of this one. */
  readonly isWanted: () => boolean;
  readonly store: Keeping | undefined;
  readonly log: Log;
  /** Called now and then while it takes its time. */
  readonly onWaiting: () => void;
}

/**
 * Ends what is left of the processes before, so that nobody else reads the groups, and takes over what `kept` holds.
 * When that cannot be gone on with, the tree is taken away, who reaches it is denied until nobody does, the
 * store is emptied, and EAGAIN says why: the service is to be started anew (ECANCELED: it is `refused`). EAGAIN, too,
 * when somebody of before does not die; nothing is changed then. Undefined: nothing of a tree is there.
 */
export async function resumeKept(kept: Kept, wanted: Wanted): Promise<KeptTree | undefined> {
  const memory = kept.get(factsName);
  if (memory === undefined) {
    // The first one in and the last one out: nobody can have been promised anything.
    for (const descriptor of kept.values()) descriptor.close();
    await wanted.store?.drop(kept.keys());
    return undefined;
  }
  const tenure = await takeTenure(memory.fd, wanted.isWanted);
  const factsFile = new FactsFile(memory);
  const found = whatIsWhole(kept, factsFile, wanted);
  if (typeof found === 'object') {
    const guard = Guard.adopt(found.parts);
    const former = [...kept.keys()].filter(isPledgeName);
    for (const name of former) kept.get(name)?.close();
    // An older supervisor has left none.
    const changeJournal = kept.get(changeJournalName) ?? createMemoryFile(changeJournalName);
    const { facts, exposure } = found;
    const restarts = factsFile.restarts();
    return { guard, factsFile, changeJournal, tenure, former, restarts, facts, exposure };
  }
  await endKept(kept, factsFile, found, wanted);
  const code = wanted.refused() === undefined ? 'EAGAIN' : 'ECANCELED';
  throw ebbError(code, `${found}: the tree was taken away`);
}

/** All that is needed to go on, or why not. */
function whatIsWhole(
  kept: Kept,
  factsFile: FactsFile,
  { tree, namedRemote, refused }: Wanted,
):
  | string
  | {
      readonly facts: TreeFacts;
      readonly parts: Readonly<Record<GuardPart, OwnedFd>>;
      readonly exposure: Exposure;
    } {
  const why = refused();
  if (why !== undefined) return why;
  const facts = factsFile.read().all;
  if (facts === undefined) return 'another version of Ebb had attached the tree';
  if (facts.tree !== tree) return `the service had attached ${facts.tree}`;
  if (namedRemote !== undefined && namedRemote !== facts.namedRemote) {
    return 'the service had attached another remote';
  }
  const parts = guardParts(kept);
  if (parts === undefined) return 'the service manager has not kept everything';
  const exposure = Exposure.find(tree, facts.shown);
  if (exposure === undefined) return 'somebody else took the tree away';
  return { facts, parts, exposure };
}

/** Whatever of it is there. Whoever has the tenure is the only one who may. */
async function endKept(
  kept: Kept,
  factsFile: FactsFile,
  why: string,
  { tree: wantedTree, store, log, onWaiting }: Wanted,
): Promise<void> {
  const { essence } = factsFile.read();
  const tree = essence?.tree ?? wantedTree;
  log('warn', `${why}: ${tree} is taken away; who still has files open gets EIO`);
  const groups: Group[] = [];
  for (const part of ['access', 'open'] as const) {
    const descriptor = kept.get(guardNames[part]);
    if (descriptor !== undefined) groups.push(Group.adopt(descriptor, 'preContent'));
  }
  for (const group of groups) group.sweep(openFilesLimit().soft);
  const denier = new Denier(groups, essence?.treeId, (message) => log('error', message));
  const shown = essence?.shown ?? Exposure.adopt(tree)?.shown;
  if (shown !== undefined) await denyWhileReachable(shown, { tree, denier, log, onWaiting });
  await letGo(groups, denier, async () => await store?.drop([factsName, ...kept.keys()]));
  for (const descriptor of kept.values()) descriptor.close();
}

function guardParts(kept: Kept): Readonly<Record<GuardPart, OwnedFd>> | undefined {
  const parts: Partial<Record<GuardPart, OwnedFd>> = {};
  for (const [part, name] of Object.entries(guardNames)) {
    const descriptor = kept.get(name);
    if (descriptor === undefined) return undefined;
    parts[part as GuardPart] = descriptor;
  }
  return parts as Record<GuardPart, OwnedFd>;
}
