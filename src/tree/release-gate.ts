/** Which contents are being released now: nobody in this process opens them meanwhile. */
export class ReleaseGate {
  readonly #releasing = new Map<number, Promise<void>>();

  isShut(id: number): boolean {
    return this.#releasing.has(id);
  }

  /** Shut until disposed. Only when it is not shut. */
  shut(id: number): Disposable {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#releasing.set(id, promise);
    return {
      [Symbol.dispose]: () => {
        this.#releasing.delete(id);
        resolve();
      },
    };
  }

  /** Resolves when it is not shut any more. */
  async opened(id: number): Promise<void> {
    while (this.#releasing.has(id)) await this.#releasing.get(id);
  }
}
