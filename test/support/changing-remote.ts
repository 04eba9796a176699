/**
 * A remote directory that changes, and the memory of every version it ever had: what a reader must see is the
 * version that was current when it opened the file (close-to-open). Each version is kept as a file of its own.
 */
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
  writeSync,
  openSync,
  closeSync,
} from 'node:fs';
import path from 'node:path';
import { noise } from './corpus.ts';

/** Seeded pseudo-random numbers (mulberry32): a failing run can be repeated. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 <= result < `below`, whole. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

export interface FileVersion {
  readonly name: string;
  /** Native file with exactly these bytes; never changes. */
  readonly model: string;
  readonly sizeBytes: number;
}

const directories = 3;
const namesPerDirectory = 5;
const sizeMaxBytes = 900_000;
/** Modification times go up by one second with every change, so that every server can tell versions apart. */
const firstMtimeSeconds = 1_500_000_000;

/**
 * How bytes that a file has are changed. A web server that sends from the page cache (sendfile(2)) sends what a
 * program writes into the file meanwhile under the tag of the version before: no reader can tell, so a file that
 * such a server sends is replaced.
 */
export type Overwriting = 'in place' | 'by rename';

export class ChangingRemote {
  /** What is served or mounted. */
  readonly root: string;
  readonly #overwriting: Overwriting;
  readonly #models: string;
  readonly #random: Random;
  readonly #current = new Map<string, FileVersion>();
  #changes = 0;

  constructor(directory: string, random: Random, overwriting: Overwriting) {
    this.#overwriting = overwriting;
    this.root = path.join(directory, 'remote');
    this.#models = path.join(directory, 'models');
    this.#random = random;
    mkdirSync(this.#models, { recursive: true });
    for (let index = 0; index < directories; index += 1) {
      mkdirSync(path.join(this.root, `d${index}`), { recursive: true });
    }
    for (const name of this.possibleNames()) {
      if (random.below(4) > 0) this.replace(name);
    }
  }

  possibleNames(): string[] {
    return Array.from(
      { length: directories * namesPerDirectory },
      (_unused, index) => `d${index % directories}/f${index}`,
    );
  }

  existingNames(): string[] {
    return [...this.#current.keys()];
  }

  directories(): string[] {
    return Array.from({ length: directories }, (_unused, index) => `d${index}`);
  }

  /** undefined: there is no such file now. */
  current(name: string): FileVersion | undefined {
    return this.#current.get(name);
  }

  /** A new file renamed over the name, or made there. */
  replace(name: string): void {
    const sizeBytes = this.#randomSize();
    this.#rename(name, noise(`${name} ${this.#changes}`, sizeBytes));
  }

  append(name: string): void {
    const version = this.#existing(name);
    const more = 1 + this.#random.below(100_000);
    appendFileSync(this.#at(name), noise(`more ${name} ${this.#changes}`, more));
    this.#stamp(this.#at(name));
    this.#remember(name, version.sizeBytes + more);
  }

  /** Same size, other bytes; in place: same inode. */
  overwrite(name: string): void {
    const { sizeBytes } = this.#existing(name);
    const bytes = noise(`over ${name} ${this.#changes}`, sizeBytes);
    if (this.#overwriting === 'by rename') return this.#rename(name, bytes);
    const descriptor = openSync(this.#at(name), 'r+');
    writeSync(descriptor, bytes);
    closeSync(descriptor);
    this.#stamp(this.#at(name));
    this.#remember(name, sizeBytes);
  }

  delete(name: string): void {
    rmSync(this.#at(name));
    this.#current.delete(name);
    this.#changes += 1;
  }

  #rename(name: string, bytes: Uint8Array): void {
    const temporary = path.join(this.#models, 'new');
    writeFileSync(temporary, bytes);
    this.#stamp(temporary);
    renameSync(temporary, this.#at(name));
    this.#remember(name, bytes.length);
  }

  #existing(name: string): FileVersion {
    const version = this.#current.get(name);
    if (version === undefined) throw new Error(`${name} does not exist`);
    return version;
  }

  #randomSize(): number {
    const kind = this.#random.below(10);
    if (kind === 0) return 0;
    if (kind < 3) return this.#random.below(5000);
    if (kind === 3) return 262_144;
    return this.#random.below(sizeMaxBytes);
  }

  #at(name: string): string {
    return path.join(this.root, name);
  }

  #stamp(file: string): void {
    this.#changes += 1;
    const seconds = firstMtimeSeconds + this.#changes;
    utimesSync(file, seconds, seconds);
  }

  #remember(name: string, sizeBytes: number): void {
    const model = path.join(this.#models, `${name.replace('/', '-')}.${this.#changes}`);
    copyFileSync(this.#at(name), model);
    utimesSync(model, firstMtimeSeconds + this.#changes, firstMtimeSeconds + this.#changes);
    this.#current.set(name, { name, model, sizeBytes });
  }
}
