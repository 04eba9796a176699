/** A tree that grew at random, as file systems do: made, written, cut, linked, moved and removed in any order. */
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { decodeName } from '../../../src/base/name.ts';
import { setXattr } from '../../../src/sys/xattr.ts';
import { patternBytes } from '../../support/pattern.ts';
import { Dice } from './mutate.ts';
import { attempt } from './populate.ts';

const stepCount = 150;
const nameBytesMax = 60;
const depthMax = 12;
const fileBytesMax = 300_000;
const pieceBytesMax = 30_000;
const valueSizes = [0, 1, 40, 200, 900, 3000];
/** Of inodes of 128 bytes: whole seconds, 32 bits. */
const timeMax = 2 ** 31 - 1;

interface Place {
  readonly path: Buffer;
  readonly depth: number;
}

/** The same for the same `seed`. What the file system has no room or no form for is left out. */
export function randomTree(root: string, seed: number): void {
  new RandomTree(root, new Dice(seed)).grow();
}

class RandomTree {
  readonly #dice: Dice;
  readonly #directories: Place[];
  /** Names of regular files. */
  readonly #files: Buffer[] = [];
  #names = 0;

  constructor(root: string, dice: Dice) {
    mkdirSync(root);
    this.#dice = dice;
    this.#directories = [{ path: Buffer.from(root), depth: 0 }];
  }

  grow(): void {
    for (let step = 0; step < stepCount; step += 1) attempt(() => this.#step());
  }

  #step(): void {
    const dice = this.#dice;
    const above = dice.of(this.#directories);
    const name = this.#newName(above);
    const kind = dice.below(10);
    if (kind < 4 || this.#files.length === 0) return this.#file(name);
    const index = dice.below(this.#files.length);
    const file = this.#files[index] ?? name;
    switch (kind) {
      case 4:
        if (above.depth >= depthMax) return;
        mkdirSync(name);
        this.#directories.push({ path: name, depth: above.depth + 1 });
        return this.#attributes(name, 0o555);
      case 5:
        linkSync(file, name);
        this.#files.push(name);
        return;
      case 6:
        symlinkSync(patternBytes(dice.below(1000), 1 + dice.below(200)).toString('hex'), name);
        lutimesSync(name, dice.below(timeMax), dice.below(timeMax));
        return;
      case 7:
        renameSync(file, name);
        this.#files[index] = name;
        return;
      case 8:
        return truncateSync(file, dice.below(fileBytesMax));
      default:
        rmSync(file);
        this.#files.splice(index, 1);
    }
  }

  #file(name: Buffer): void {
    const dice = this.#dice;
    const descriptor = openSync(name, 'wx');
    this.#files.push(name);
    try {
      for (let piece = dice.below(5); piece > 0; piece -= 1) {
        const bytes = patternBytes(dice.below(1000), 1 + dice.below(pieceBytesMax));
        writeSync(descriptor, bytes, 0, bytes.length, dice.below(fileBytesMax));
      }
      if (dice.below(4) === 0) ftruncateSync(descriptor, dice.below(fileBytesMax));
    } finally {
      closeSync(descriptor);
    }
    this.#attributes(name, 0);
  }

  /** `permissions`: bits that it has in any case. */
  #attributes(name: Buffer, permissions: number): void {
    const dice = this.#dice;
    if (dice.below(3) === 0) {
      for (let count = 1 + dice.below(3); count > 0; count -= 1) {
        const value = patternBytes(dice.below(1000), dice.of(valueSizes));
        attempt(() => setXattr(decodeName(name), `user.random ${dice.below(1e6)}`, value));
      }
    }
    lchownSync(name, dice.below(100_000), dice.below(100_000));
    chmodSync(name, dice.below(0o10000) | permissions);
    lutimesSync(name, dice.below(timeMax), dice.below(timeMax));
  }

  /** Any bytes; unlike every other. */
  #newName({ path }: Place): Buffer {
    const bytes = Buffer.alloc(this.#dice.below(nameBytesMax));
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = 1 + this.#dice.below(255);
      bytes[at] = byte === 0x2f ? 0x5f : byte;
    }
    this.#names += 1;
    return Buffer.concat([path, Buffer.from('/'), bytes, Buffer.from(String(this.#names))]);
  }
}
