/** Files of which questions are being answered: these must not be released. */
export class BusyFiles {
  /** How many, by file. */
  readonly #counts = new Map<number, number>();

  has(fileId: number): boolean {
    return this.#counts.has(fileId);
  }

  /** One question, until it is disposed. */
  begin(fileId: number): Disposable {
    this.#counts.set(fileId, (this.#counts.get(fileId) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#counts.get(fileId) ?? 0) - 1;
        if (left > 0) this.#counts.set(fileId, left);
        else this.#counts.delete(fileId);
      },
    };
  }
}
