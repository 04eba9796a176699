/** What the namespace is made with, and what it tells of: who remembers some of the catalog may have to forget it. */
import type { Clock } from '../../base/clock.ts';
import type { EbbError } from '../../base/errors.ts';
import type { Catalog, Node } from '../../catalog/catalog.ts';
import type { Remote } from '../../remote/remote.ts';

export type NamespaceChange =
  /** A directory was listed again, or a name of it changed. `gone`: nodes that no longer have their name. */
  | {
      readonly kind: 'directory';
      readonly directoryId: number;
      readonly gone: readonly Node[];
      /** Names that the directory did not have when it was listed before: somebody may remember their absence. */
      readonly appeared: readonly Uint8Array[];
      /** False: the same names mean the same nodes, only facts (and their freshness) changed. */
      readonly namesChanged: boolean;
    }
  /** Facts of one node were refreshed in place. */
  | { readonly kind: 'facts'; readonly nodeId: number };

export interface NamespaceOptions {
  readonly catalog: Catalog;
  readonly remote: Remote;
  readonly clock: Clock;
  /** How long a listing or a version is trusted; 0 = ask every time. */
  readonly ttlMs: number;
  /** How long a listing, stat or revalidation may take in all. */
  readonly deadlineMs: number;
  readonly onChange: (change: NamespaceChange) => void;
  readonly onProblem: (message: string, error: EbbError) => void;
}
