/** One content of the cache: the file behind a node id. */
import type { DescriptorUse } from './descriptor-cache.ts';
import { LocalContent } from './local-content.ts';
import type { ContentIdentity, ContentPort } from './local-content.ts';
import { writeContent } from './local-io.ts';
import type { Residency } from './residency.ts';

/** The catalog's row of a content. */
export interface StoredFacts extends ContentIdentity {
  readonly chunkBytes: number;
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
}

export class StoredContent extends LocalContent {
  readonly #port: ContentPort<StoredContent>;

  constructor(facts: ContentIdentity, residency: Residency, port: ContentPort<StoredContent>) {
    super(facts, residency, port, 'cache');
    this.#port = port;
  }

  /** The verified descriptor of the local file, open until disposed. Throws EIO (not our file), EBUSY, EMFILE. */
  useDescriptor(): DescriptorUse {
    return this.#port.use(this);
  }

  /** Nobody else writes to a file of the cache. */
  protected override requireWritable(): void {}

  protected override async writeNow(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    using use = this.#port.use(this);
    try {
      await writeContent(use.fd, bytes, offsetBytes, this.#port.writesAtOnce(bytes.byteLength));
    } finally {
      this.#port.dirtied(this);
    }
  }
}
