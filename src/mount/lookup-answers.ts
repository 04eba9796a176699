/** LOOKUPs that main answers itself: those that waited for a listing, which has brought all that they need. */
import { NodeKind } from '../catalog/catalog.ts';
import type { CatalogReader, Node } from '../catalog/catalog.ts';
import type { DeferredCall, Entry } from '../fuse/filesystem.ts';
import { entryOf } from './attributes.ts';
import type { AttributeDefaults } from './attributes.ts';
import { Generations } from './generations.ts';
import { NodeView } from './node-view.ts';

/** Of the thread that would answer otherwise. */
export interface LookupSettings extends AttributeDefaults {
  readonly ttlMs: number;
  readonly generationKey: Uint8Array;
}

export class LookupAnswers {
  readonly #catalog: CatalogReader;
  readonly #settings: LookupSettings;
  readonly #generations: Generations;
  readonly #view: NodeView;

  constructor(catalog: CatalogReader, settings: LookupSettings, nowMs: () => number) {
    this.#catalog = catalog;
    this.#settings = settings;
    this.#generations = new Generations(settings.generationKey);
    // Only to reckon with: main changes rows, and remembers none here.
    this.#view = new NodeView(catalog, settings.ttlMs, nowMs);
  }

  /** As `MountServerOptions.answerLookup`. */
  answer(
    answers: { entry(call: DeferredCall, entry: Entry): boolean },
    call: DeferredCall,
    node: Node,
  ): boolean {
    if (node.kind === NodeKind.file && !node.exact) return false;
    const timeoutMs = this.#view.entryTimeoutMs(node, this.#catalog.node(node.parentId));
    const generation = this.#generations.of(node.id);
    // When the kernel does not want it any more the request is gone, which is as good as answered.
    answers.entry(call, entryOf(node, generation, this.#settings, timeoutMs));
    return true;
  }
}
