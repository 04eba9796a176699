/** What the composition root built, as the control API's handlers see it. */
import type { Clock } from '../../base/clock.ts';
import type { RunRecord } from '../../base/run-directory.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { MountServer } from '../../mount/server.ts';
import type { RecallEngine } from '../../recall/engine.ts';
import type { Namespace } from '../../recall/namespace/namespace.ts';
import type { Preparer } from '../../recall/namespace/prepare.ts';
import type { Remote } from '../../remote/remote.ts';
import type { ContentFile } from '../../tree/content.ts';
import type { FactSources } from './handlers/facts.ts';
import type { RecallViews } from '../control/recall-views.ts';
import type { TokenDesk } from '../handles/token-desk.ts';
import type { Logbook } from '../logbook.ts';
import type { Configuration } from '../options.ts';
import type { Paths } from './paths.ts';
import type { Releaser } from './releaser.ts';

export interface MountFacts {
  readonly passthrough: boolean;
  readonly privileged: boolean;
  /** Files that programs have open through the mount, as last reported by the FUSE thread. */
  readonly openFiles: () => number;
  /** File handles that the FUSE thread has refused. */
  readonly handlesRefused: () => number;
}

export interface DaemonParts {
  readonly version: string;
  /** The mount, not this daemon. */
  readonly startedAtMs: number;
  /** Daemons before this one. */
  readonly restarts: number;
  readonly clock: Clock;
  readonly configuration: Configuration;
  readonly run: RunRecord;
  readonly logbook: Logbook;
  readonly remote: Remote;
  readonly catalog: Catalog;
  readonly namespace: Namespace;
  readonly preparer: Preparer;
  readonly recall: RecallEngine;
  readonly releaser: Releaser;
  readonly server: MountServer;
  readonly paths: Paths;
  readonly facts: FactSources;
  readonly mount: MountFacts;
  readonly tokens: TokenDesk;
  /** Records what was recalled just now on stable storage. Rejects when the catalog cannot. */
  readonly settle: () => Promise<void>;
  /** Resolves when the kernel knows of all names that have changed until now, or cannot be told in time. */
  readonly namesTold: () => Promise<void>;
  /** Loads the local file of a node that has one. */
  readonly storedContent: (nodeId: number) => ContentFile | undefined;
  /** The last failed read of a node, as a sentence. */
  readonly readFailures: ReadonlyMap<number, string>;
  readonly recallViews: RecallViews;
}
