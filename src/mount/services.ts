/** What the file system of a mount works with. */
import type { Call } from '../fuse/filesystem.ts';
import type { DeferredAnswers } from './answerer.ts';
import type { AttributeDefaults } from './attributes.ts';
import type { Bridge } from './bridge.ts';
import type { Generations } from './generations.ts';
import type { HandleTable } from './handle-table.ts';
import type { NodeView } from './node-view.ts';
import type { ScanLog } from './scan-log.ts';
import type { WalkWatcher } from './walk-watcher.ts';

export interface MountServices {
  readonly view: NodeView;
  readonly bridge: Bridge;
  readonly answers: DeferredAnswers;
  readonly walk: WalkWatcher;
  readonly defaults: AttributeDefaults;
  readonly generations: Generations;
  readonly passthrough: boolean;
  /** How many files programs have open, for other threads to see. */
  readonly openCount?: Int32Array;
  /** How often the kernel brought a file handle of what is not there (any more), for other threads to see. */
  readonly staleHandles?: Int32Array;
  readonly nowMs: () => number;
  readonly openBacking: (descriptor: number) => number;
  readonly closeBacking: (backingId: number) => void;
  /** What predecessors have open, and for successors. Default: neither. */
  readonly table?: HandleTable;
  readonly scanLog?: ScanLog;
  /** Daemons that served the connection before this one. */
  readonly predecessors?: number;
  readonly statistics: () => Parameters<Call['statfs']>[0];
  /** The connection is over. */
  readonly onDestroy?: () => void;
}
