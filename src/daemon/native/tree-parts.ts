/** What the composition root of a tree built, as the control API's handlers see it. */
import type { Populator } from '../../attach/populate.ts';
import type { Clock } from '../../base/clock.ts';
import type { StubCatalog } from '../../catalog/stub-catalog.ts';
import type { NativeServer } from '../../native/server.ts';
import type { RecallEngine } from '../../recall/engine.ts';
import type { Remote } from '../../remote/remote.ts';
import type { NativeStubStore } from '../../tree/stubs/store.ts';
import type { AttachConfiguration } from '../attach-options.ts';
import type { TokenDesk } from '../handles/token-desk.ts';
import type { RecallViews } from '../control/recall-views.ts';
import type { Logbook } from '../logbook.ts';
import type { SpaceKeeper } from '../space-keeper.ts';
import type { Start } from './supervisor-link.ts';
import type { TreeFactSources } from './tree-facts.ts';
import type { TreeFiles } from './tree-files.ts';
import type { TreeReleaser } from './tree-releaser.ts';
import type { TreeWork } from './tree-work.ts';

export interface TreeParts {
  readonly version: string;
  readonly clock: Clock;
  readonly start: Start;
  readonly configuration: AttachConfiguration;
  readonly stateDirectory: string;
  readonly logbook: Logbook;
  readonly remote: Remote;
  readonly catalog: StubCatalog;
  readonly store: NativeStubStore;
  readonly recall: RecallEngine;
  readonly recallViews: RecallViews;
  readonly server: NativeServer;
  readonly releaser: TreeReleaser;
  readonly space: SpaceKeeper;
  readonly populator: Populator;
  readonly files: TreeFiles;
  readonly work: TreeWork;
  readonly facts: TreeFactSources;
  /** The last failed read of a stub, as a sentence. */
  readonly readFailures: ReadonlyMap<number, string>;
  readonly remoteReachable: () => boolean;
  /** Undefined: the handle secret is not as it must be. */
  readonly tokens: TokenDesk | undefined;
}
