/** The life of a tree's daemon: from the supervisor's word to start until the tree was taken away. */
import { dissolveTree } from '../../attach/tree-layout.ts';
import type { TreePlaces } from '../../attach/tree-layout.ts';
import { ebbError, toEbbError } from '../../base/errors.ts';
import { removeRunRecord } from '../../base/run-directory.ts';
import { Group } from '../../fanotify/group.ts';
import { Denier } from '../../supervisor/denier.ts';
import { Exposure } from '../../supervisor/exposure.ts';
import { denyWhileReachable } from '../../supervisor/farewell.ts';
import type { PreparedThread } from '../../base/prepared-thread.ts';
import { isHeld, untilReleased } from '../../supervisor/pledge.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import type { StopResult } from '../api.ts';
import { parseAttachOptions } from '../attach-options.ts';
import type { Logbook } from '../logbook.ts';
import { Teardown } from '../teardown.ts';
import { buildTree, endMaxMs } from './build-tree.ts';
import type { AttachFacts } from './first-names.ts';
import type { InheritedDescriptors, Start, SupervisorLink } from './supervisor-link.ts';
import type { TreeParts } from './tree-parts.ts';

export interface NativeSurroundings {
  readonly link: SupervisorLink;
  /** Serves the events; ended with everything else. */
  readonly thread: PreparedThread;
  readonly signal: AbortSignal;
}

export class NativeProcess {
  /** For the supervisor. */
  readonly ready: {
    remote: string;
    stateDirectory: string;
    facts: AttachFacts & Record<string, unknown>;
  };
  /** Resolves when the tree was taken away and everything is closed. Never rejects. */
  readonly ended: Promise<void>;
  readonly #link: SupervisorLink;
  readonly #treeId: string;
  readonly #stopped = Promise.withResolvers<void>();

  private constructor(
    stack: { readonly parts: TreeParts; readonly facts: AttachFacts },
    teardown: Teardown,
    {
      link,
      inherited,
      treeId,
    }: {
      readonly link: SupervisorLink;
      readonly inherited: InheritedDescriptors;
      readonly treeId: string;
    },
  ) {
    const { parts, facts } = stack;
    this.#link = link;
    this.#treeId = treeId;
    this.ready = {
      remote: parts.remote.displayName,
      stateDirectory: parts.stateDirectory,
      facts: { ...facts },
    };
    this.ended = this.#live(parts, teardown, inherited);
  }

  /**
   * Throws EbbError with a sentence for the user (EINTR when `signal` fires). A directory that was an ordinary one and
   * has not become a tree is one again then.
   */
  static async start(
    start: Start,
    inherited: InheritedDescriptors,
    { link, thread, signal }: NativeSurroundings,
  ): Promise<NativeProcess> {
    const teardown = new Teardown();
    const self: { process?: NativeProcess } = {};
    const own = (): NativeProcess => {
      if (self.process !== undefined) return self.process;
      throw ebbError('EAGAIN', 'the tree is still being attached');
    };
    const configuration = parseAttachOptions(JSON.stringify(start.options));
    const prepared = start.prepared as unknown as TreePlaces;
    const undo = { dissolve: start.restarts === 0 && prepared.isNew };
    try {
      const stack = await buildTree(
        { start, configuration, prepared, inherited },
        {
          teardown,
          link,
          thread,
          signal,
          undo,
          stop: (lazy) => own().stop(lazy),
          takenAway: () => own().#stopped.resolve(),
        },
      );
      self.process = new NativeProcess(stack, teardown, {
        link,
        inherited,
        treeId: prepared.treeId,
      });
      return self.process;
    } catch (error) {
      await teardown.run(() => undefined);
      if (undo.dissolve) await dissolveAgain(configuration.tree, prepared);
      throw error;
    }
  }

  /** Has the tree taken away. Busy and not lazy: nothing happens, and the holders are named. */
  async stop(lazy: boolean): Promise<StopResult> {
    const result = await this.#link.stop(lazy, endMaxMs);
    if (result.stopped) this.#stopped.resolve();
    return result;
  }

  async #live(
    parts: TreeParts,
    teardown: Teardown,
    inherited: InheritedDescriptors,
  ): Promise<void> {
    const { logbook, configuration } = parts;
    const { tree } = configuration;
    const why = await Promise.race([
      this.#stopped.promise.then(() => 'stopped' as const),
      this.#link.ended.then(() => 'stopped' as const),
      this.#abandoned(inherited.pledge, logbook).then(() => 'lost' as const),
    ]);
    let exposure: Exposure | undefined;
    if (why === 'lost') {
      logbook.log('error', 'there is no supervisor any more: the tree is taken away');
      exposure = Exposure.adopt(tree);
      await exposure?.hide(true).catch((error: unknown) => {
        logbook.log('error', `the tree cannot be taken away: ${toEbbError(error).message}`);
      });
    }
    await teardown.run((what, error) => logbook.log('error', `${what}: ${error.message}`));
    if (why === 'lost') {
      await this.#lastWatch(tree, exposure, logbook, inherited);
      removeRunRecord(tree);
    }
    for (const descriptor of Object.values(inherited)) descriptor.close();
  }

  /** Resolves when the supervisor is gone and nobody is pledged to start another one, who would end this process. */
  async #abandoned(pledge: OwnedFd, logbook: Logbook): Promise<void> {
    await this.#link.lost;
    if (!isHeld(pledge.fd)) return;
    logbook.log('warn', 'the supervisor is gone: this goes on until the next one comes');
    await untilReleased(pledge.fd, Infinity);
  }

  /** With the groups closed, everything would be allowed: as long as anybody is left, this process stays. */
  async #lastWatch(
    tree: string,
    exposure: Exposure | undefined,
    logbook: Logbook,
    inherited: InheritedDescriptors,
  ): Promise<void> {
    if (exposure === undefined) return;
    const groups = [inherited.access, inherited.open].map((fd) =>
      Group.borrow(fd.fd, 'preContent'),
    );
    const denier = new Denier(groups, this.#treeId, (message) => logbook.log('error', message));
    const log = (level: 'info' | 'warn', message: string): void => logbook.log(level, message);
    await denyWhileReachable(exposure.shown, { tree, denier, log }).catch((error: unknown) =>
      logbook.log('error', toEbbError(error).message),
    );
  }
}

/** Where stubs were made, whatever the catalog knows of them, it stays a tree: the next attaching goes on with it. */
async function dissolveAgain(tree: string, prepared: TreePlaces): Promise<void> {
  try {
    await dissolveTree(tree, prepared);
  } catch (error) {
    process.stderr.write(`${tree} stays a tree: ${toEbbError(error).message}\n`);
  }
}
