/**
 * Which names came before, for directories of any size: a few as they are, many as hashes of 96 bits in one table of
 * numbers, 16 to 50 bytes each however long they are. Two of ten million different names have the same hash with a
 * probability of less than 10^-15. What is hashed comes from a server: the hash has a key, made anew for each process,
 * so that nobody can choose names that meet in one place of the table or are taken for each other.
 */

/** Names that are kept as they are. */
const exactMax = 4_096;
const wordsPerName = 3;
/** The table grows when more than 3 of 4 places are taken. */
const loadMax = 0.75;
/** Where the three words of a hash begin, then two factors for each of them. */
export const keyWords = 3 * wordsPerName;
const processKey = crypto.getRandomValues(new Int32Array(keyWords));

export class NameSet {
  #names: Set<string> | undefined = new Set();
  /** Three words for each place, the first of which is 0 where it is free. */
  #table = new Uint32Array(0);
  #placeMask = 0;
  #size = 0;
  /** The hash that was made last. */
  readonly #hash = new Uint32Array(wordsPerName);
  readonly #key: Int32Array;

  /** `key`: `keyWords` random words; another than that of the process is for tests. */
  constructor(key = processKey) {
    this.#key = key;
  }

  get size(): number {
    return this.#size;
  }

  /** False: it is there already. */
  add(name: string): boolean {
    const names = this.#names;
    if (names === undefined) return this.#addHash(name);
    if (names.has(name)) return false;
    if (this.#size < exactMax) {
      names.add(name);
      this.#size += 1;
      return true;
    }
    this.#names = undefined;
    this.#size = 0;
    this.#makeTable(4 * exactMax);
    for (const known of names) this.#addHash(known);
    return this.#addHash(name);
  }

  #addHash(name: string): boolean {
    if (this.#size >= (this.#placeMask + 1) * loadMax) this.#grow();
    hashInto(name, this.#key, this.#hash);
    const [a = 0, b = 0, c = 0] = this.#hash;
    const isNew = this.#put(a, b, c);
    if (isNew) this.#size += 1;
    return isNew;
  }

  #put(a: number, b: number, c: number): boolean {
    const table = this.#table;
    for (let place = a & this.#placeMask; ; place = (place + 1) & this.#placeMask) {
      const at = place * wordsPerName;
      if (table[at] === a && table[at + 1] === b && table[at + 2] === c) return false;
      if (table[at] !== 0) continue;
      table[at] = a;
      table[at + 1] = b;
      table[at + 2] = c;
      return true;
    }
  }

  /** `places`: a power of two. */
  #makeTable(places: number): void {
    this.#table = new Uint32Array(places * wordsPerName);
    this.#placeMask = places - 1;
  }

  #grow(): void {
    const before = this.#table;
    this.#makeTable((this.#placeMask + 1) * 2);
    for (let at = 0; at < before.length; at += wordsPerName) {
      const a = before[at] ?? 0;
      if (a !== 0) this.#put(a, before[at + 1] ?? 0, before[at + 2] ?? 0);
    }
  }
}

/** Three hashes in the manner of MurmurHash3 (Appleby), whose factors are part of the key. */
function hashInto(name: string, key: Int32Array, hash: Uint32Array): void {
  let [a = 0, b = 0, c = 0] = key;
  // Odd factors lose nothing.
  const [, , , a1 = 0, a2 = 0, b1 = 0, b2 = 0, c1 = 0, c2 = 0] = key;
  for (let index = 0; index < name.length; index += 1) {
    const unit = name.charCodeAt(index) + 1;
    a = step(a, Math.imul(unit, a1 | 1), a2 | 1);
    b = step(b, Math.imul(unit, b1 | 1), b2 | 1);
    c = step(c, Math.imul(unit, c1 | 1), c2 | 1);
  }
  // 0 means a free place.
  hash[0] = finish(a ^ name.length) || 1;
  hash[1] = finish(b ^ name.length);
  hash[2] = finish(c ^ name.length);
}

function step(hash: number, unit: number, factor: number): number {
  const mixed = hash ^ Math.imul((unit << 15) | (unit >>> 17), factor);
  return Math.imul((mixed << 13) | (mixed >>> 19), 5) + 0x52dce729;
}

function finish(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
