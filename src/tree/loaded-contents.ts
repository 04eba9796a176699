/**
 * Loaded contents by id: the recently used ones are kept (bounded by count and bytes), the others for as long as
 * somebody else holds them, so that there is never a second object, with a second bitmap, for one content.
 */
const keptCountMax = 4_096;
const keptBytesMax = 64 * 1024 * 1024;

export class LoadedContents<Item extends object> {
  readonly #known = new Map<number, WeakRef<Item>>();
  /** Oldest use first. */
  readonly #kept = new Map<number, { readonly item: Item; readonly bytes: number }>();
  readonly #collected = new FinalizationRegistry<number>((id) => {
    if (this.#known.get(id)?.deref() === undefined) this.#known.delete(id);
  });
  #keptBytes = 0;

  get(id: number): Item | undefined {
    const kept = this.#kept.get(id);
    if (kept !== undefined) {
      this.#kept.delete(id);
      this.#kept.set(id, kept);
      return kept.item;
    }
    return this.#known.get(id)?.deref();
  }

  /** `bytes`: memory of the item. */
  set(id: number, item: Item, bytes: number): void {
    this.#known.set(id, new WeakRef(item));
    this.#collected.register(item, id);
    this.#kept.set(id, { item, bytes });
    this.#keptBytes += bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptCountMax && this.#keptBytes <= keptBytesMax) break;
      this.#letGo(oldest);
    }
  }

  delete(id: number): void {
    this.#letGo(id);
    this.#known.delete(id);
  }

  #letGo(id: number): void {
    this.#keptBytes -= this.#kept.get(id)?.bytes ?? 0;
    this.#kept.delete(id);
  }
}
