/** One content of the cache: the file behind a node id. */
import { writeAllAt } from '../sys/file-io.ts';
import type { DescriptorUse } from './descriptor-cache.ts';
import { LocalContent } from './local-content.ts';
import type { ContentIdentity, ContentPort } from './local-content.ts';
import type { Residency } from './residency.ts';

/** The catalog's row of a content. */
export interface StoredFacts extends ContentIdentity {
  readonly chunkBytes: number;
  readonly bitmap: Uint8Array;
  readonly residentBytes: number;
  readonly complete: boolean;
}

export class StoredContent extends LocalContent {
  /** Whether all is in its file that the catalog claimed when it was loaded; undefined: nobody has looked. */
  isSound: boolean | undefined;
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
      const isWritten = this.#port.writeAtOnce(use.fd, bytes, offsetBytes);
      if (!isWritten) await writeAllAt(use.fd, bytes, offsetBytes);
    } finally {
      this.#port.dirtied(this);
    }
  }
}
