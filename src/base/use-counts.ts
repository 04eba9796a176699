/** How many at a time have to do with each of many things, by number: files that must not be released, say. */
export class UseCounts {
  readonly #counts = new Map<number, number>();

  has(id: number): boolean {
    return this.#counts.has(id);
  }

  of(id: number): number {
    return this.#counts.get(id) ?? 0;
  }

  /** One more, until it is disposed, which must be once. */
  begin(id: number): Disposable {
    this.#counts.set(id, this.of(id) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = this.of(id) - 1;
        if (left > 0) this.#counts.set(id, left);
        else this.#counts.delete(id);
      },
    };
  }
}
