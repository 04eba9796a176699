/** Changes of the catalog that are made together, and heard of when they are there. */
import type { NamespaceChange, NamespaceOptions } from './namespace-options.ts';
import { TurnBatch } from './turn-batch.ts';

type Parts = Pick<NamespaceOptions, 'catalog' | 'onChange'>;

export class CatalogChanges {
  readonly #parts: Parts;
  readonly #forget: () => void;
  /** Answers that came in one turn of the event loop are one transaction. */
  readonly #batch = new TurnBatch((runAll) => this.#together(runAll));
  /** Changes that are not in the catalog yet: nobody may hear of them before. */
  #unheard: NamespaceChange[] | undefined;

  /** `forget` drops what is remembered of the catalog: a transaction failed. */
  constructor(parts: Parts, forget: () => void) {
    this.#parts = parts;
    this.#forget = forget;
  }

  /** Runs `work`, which changes the catalog, together with what else comes in this turn. Rejects with what it threw. */
  enter<Result>(work: () => Result): Promise<Result> {
    return this.#batch.run(work);
  }

  /** Tells of a change that was made, at once or when the transaction that it is part of is over. */
  tell(change: NamespaceChange): void {
    if (this.#unheard === undefined) this.#parts.onChange(change);
    else this.#unheard.push(change);
  }

  #together(work: () => void): void {
    const changes: NamespaceChange[] = [];
    this.#unheard = changes;
    try {
      this.#parts.catalog.together(work);
    } catch (error) {
      // What is remembered may be of what was not entered.
      this.#forget();
      throw error;
    } finally {
      this.#unheard = undefined;
      // Also after a failure: part of it may be there, and to look again harms nobody.
      for (const change of changes) this.#parts.onChange(change);
    }
  }
}
