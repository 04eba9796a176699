/**
 * A file in memory that a supervisor leaves with the service manager: what its successor has to know and cannot find
 * out while the tree is shown. Its lock is the tenure (tenure.ts).
 */
import { ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import type { OwnedFd } from '../sys/fd.ts';
import { createMemoryFile } from '../sys/memory-file.ts';
import type { Opaque } from './messages.ts';
import type { Shown } from './reachability.ts';
import { tenureFileName } from './tenure.ts';
import type { Ready } from './tree-supervisor.ts';

/** A successor of another version understands this number, or takes the tree away. */
const factsVersion = 2;
/** At the start: restarts, in one write, so whole at any time. */
const headerBytes = 8;

/** What every version understands: enough to take the tree away with nobody let through. */
export interface Essence {
  readonly tree: string;
  readonly treeId: string;
  readonly shown: Shown;
}

export interface TreeFacts extends Essence {
  readonly prepared: Opaque & { readonly treeId: string; readonly ebbDirectory: string };
  /** As the command line had it, without credentials. */
  readonly namedRemote: string | undefined;
  readonly startedAtMs: number;
  readonly ready: Omit<Ready, 'kind'>;
}

export class FactsFile implements Disposable {
  readonly #memory: OwnedFd;

  constructor(memory: OwnedFd = createMemoryFile(tenureFileName)) {
    this.#memory = memory;
  }

  get fd(): number {
    return this.#memory.fd;
  }

  /** Daemons that died. */
  noteRestarts(restarts: number): void {
    writeSync(this.fd, BigInt64Array.of(BigInt(restarts)), 0, headerBytes, 0);
  }

  restarts(): number {
    const words = new BigInt64Array(1);
    readSync(this.fd, words, 0, headerBytes, 0);
    return Number(words[0]);
  }

  /** Before it is given away. */
  write(facts: TreeFacts): void {
    const text = Buffer.from(JSON.stringify({ version: factsVersion, ...facts }));
    ftruncateSync(this.fd, headerBytes);
    writeSync(this.fd, text, 0, text.length, headerBytes);
  }

  /** `all`: undefined when another version has written it; `essence`: when it says nothing at all. */
  read(): { readonly all: TreeFacts | undefined; readonly essence: Essence | undefined } {
    const bytes = readFileSync(`/proc/self/fd/${this.fd}`);
    let facts: Partial<TreeFacts> & { readonly version?: unknown } = {};
    try {
      facts = JSON.parse(bytes.subarray(headerBytes).toString()) as typeof facts;
    } catch {
      // Its writer died before.
    }
    return {
      all: facts.version === factsVersion ? (facts as TreeFacts) : undefined,
      essence: isEssence(facts) ? facts : undefined,
    };
  }

  [Symbol.dispose](): void {
    this.#memory.close();
  }
}

function isEssence(facts: Partial<Essence>): facts is Essence {
  const { tree, treeId, shown } = facts;
  return (
    typeof tree === 'string' && typeof treeId === 'string' && typeof shown?.mountId === 'number'
  );
}
