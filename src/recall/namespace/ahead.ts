/**
 * What is asked of the remote before anybody asks for it, while programs look paths up: whoever looks a directory up
 * goes into it as a rule, so its listing is asked for as soon as the one that names it has come, before that is entered
 * into the catalog. Where the way can only go on through one directory, so is that one's.
 *
 * A guess costs one listing, which ends where it gets long (docs/decisions/0032-listings-ahead-of-lookups.md).
 */
import { decodeName } from '../../base/name.ts';
import type { ListedObject, ObjectAttributes } from '../../remote/remote.ts';

/** Listings under way that nobody has asked for, at one time. */
const guessesMax = 16;
/** So many listings lead to each other before somebody has to ask for one. */
const levelsMax = 8;
/** A directory with no more names than these, and one directory among them, leads there. */
const fewNames = 16;
/** Directories in which somebody waits for a name; of more nothing is known. */
const lookedForMax = 1_024;

/** A name with an extension. */
export function looksLikeFile(name: Uint8Array): boolean {
  return /[^.]\.[A-Za-z0-9]{1,8}$/.test(decodeName(name));
}

export interface LookedFor {
  readonly name: string;
  /** What the remote has said of it meanwhile. */
  object?: ObjectAttributes;
  /** It is a directory whose listing has begun. */
  isFollowed?: boolean;
}

export interface Step {
  readonly name: string;
  readonly levels: number;
}

export class Ahead {
  /** Directories that are being listed and that nobody has asked for, with how many may follow. */
  readonly #guesses = new Map<number, number>();
  /** By directory: what the last one looks for who waits for its listing. */
  readonly #lookedFor = new Map<number, LookedFor>();

  readonly #guessesMax: number;

  /** `ttlMs`: as in `NamespaceOptions`. */
  constructor(ttlMs: number) {
    // What is never trusted is asked for again by whoever comes.
    this.#guessesMax = ttlMs > 0 ? guessesMax : 0;
  }

  /** Somebody is about to wait for the listing of a directory, for the sake of a name. */
  looksFor(directoryId: number, name: Uint8Array): LookedFor {
    const looked: LookedFor = { name: decodeName(name) };
    if (this.#lookedFor.size < lookedForMax) this.#lookedFor.set(directoryId, looked);
    return looked;
  }

  /** He waits no longer. */
  found(directoryId: number, looked: LookedFor): void {
    if (this.#lookedFor.get(directoryId) === looked) this.#lookedFor.delete(directoryId);
  }

  lookedFor(directoryId: number): LookedFor | undefined {
    return this.#lookedFor.get(directoryId);
  }

  /** The directory to be listed after `directoryId`, whose listing this is. */
  next(directoryId: number, listed: readonly ListedObject[]): Step | undefined {
    if (this.#guesses.size >= this.#guessesMax) return undefined;
    const looked = this.#lookedFor.get(directoryId);
    if (looked !== undefined) {
      const found = listed.find(({ name }) => name === looked.name);
      if (found?.kind !== 'directory') return undefined;
      looked.isFollowed = true;
      return { name: looked.name, levels: levelsMax };
    }
    const levels = (this.#guesses.get(directoryId) ?? 0) - 1;
    if (levels <= 0 || listed.length > fewNames) return undefined;
    const [only, another] = listed.filter(({ kind }) => kind === 'directory');
    return only === undefined || another !== undefined ? undefined : { name: only.name, levels };
  }

  /** A listing that nobody has asked for begins; undefined: there are too many. */
  guess(directoryId: number, levels = levelsMax): Disposable | undefined {
    if (this.#guesses.size >= this.#guessesMax) return undefined;
    this.#guesses.set(directoryId, levels);
    return { [Symbol.dispose]: () => void this.#guesses.delete(directoryId) };
  }

  /** Somebody asks for it: it is no guess any more. */
  wanted(directoryId: number): void {
    this.#guesses.delete(directoryId);
  }

  isGuess(directoryId: number): boolean {
    return this.#guesses.has(directoryId);
  }
}
