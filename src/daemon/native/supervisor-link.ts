/** The daemon's end of the channel to its supervisor (src/supervisor/messages.ts). */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import { duplicateFd, OwnedFd } from '../../sys/fd.ts';
import { createMemoryFile } from '../../sys/memory-file.ts';
import { Inherited, protocolVersion } from '../../supervisor/messages.ts';
import type { HideResult, Opaque, ToDaemon, ToSupervisor } from '../../supervisor/messages.ts';

export type Start = Extract<ToDaemon, { kind: 'start' }>;

/** What the supervisor gave, owned and close-on-exec now. */
export interface InheritedDescriptors {
  readonly access: OwnedFd;
  readonly open: OwnedFd;
  readonly changes: OwnedFd;
  readonly privateMount: OwnedFd;
  readonly lock: OwnedFd;
  readonly pledge: OwnedFd;
  readonly changeJournal: OwnedFd;
  /** The last one that is closed: whoever gets it then may read the groups. */
  readonly tenure: OwnedFd;
}

/** Takes the inherited numbers over; once. */
export function takeInherited({ hasChangeJournal }: Start): InheritedDescriptors {
  const take = (fd: number): OwnedFd => {
    using inherited = new OwnedFd(fd);
    return duplicateFd(inherited.fd);
  };
  return {
    access: take(Inherited.accessGroup),
    open: take(Inherited.openGroup),
    changes: take(Inherited.changeGroup),
    privateMount: take(Inherited.privateMount),
    lock: take(Inherited.lock),
    pledge: take(Inherited.pledge),
    // With an older supervisor it is nobody's but this process's.
    changeJournal:
      hasChangeJournal === true
        ? take(Inherited.changeJournal)
        : createMemoryFile('ebb-change-journal'),
    tenure: take(Inherited.tenure),
  };
}

export class SupervisorLink {
  /** Rejects with EPROTO when the supervisor is another Ebb's, which this one does not understand. */
  readonly started: Promise<Start>;
  /** Resolves when the tree was taken away and all is to end. */
  readonly ended: Promise<void>;
  /** Resolves when the supervisor is gone: nobody would start another daemon, unless the pledge holds. */
  readonly lost: Promise<void>;
  readonly #stops = new Map<number, (result: HideResult) => void>();
  #nextStop = 1;
  #successor: PromiseWithResolvers<boolean> | undefined;
  /** The supervisor knows how to replace a daemon that serves. */
  #canReplace = false;

  constructor() {
    const started = Promise.withResolvers<Start>();
    const ended = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<void>();
    this.started = started.promise;
    this.ended = ended.promise;
    this.lost = lost.promise;
    process.on('message', (raw) => {
      const message = raw as ToDaemon;
      switch (message.kind) {
        case 'start':
          this.#canReplace = message.canReplace === true;
          if (message.protocol === protocolVersion) return started.resolve(message);
          return started.reject(
            ebbError('EPROTO', 'another version of Ebb supervises this tree: attach it again'),
          );
        case 'stopResult':
          this.#stops.get(message.id)?.(message.result);
          this.#stops.delete(message.id);
          return;
        case 'successor':
          return this.#successor?.resolve(message.isReady);
        case 'end':
          return ended.resolve();
      }
    });
    const onLost = (): void => {
      const error = ebbError('ESHUTDOWN', 'the supervisor of the tree is gone');
      started.reject(error);
      lost.resolve();
      for (const resolve of this.#stops.values()) resolve({ stopped: false, holders: [] });
      this.#successor?.resolve(false);
    };
    if (process.connected) process.on('disconnect', onLost);
    else onLost();
  }

  warm(): void {
    this.#send({ kind: 'warm' });
  }

  progress(progress: Opaque): void {
    this.#send({ kind: 'progress', progress });
  }

  ready(ready: Omit<Extract<ToSupervisor, { kind: 'ready' }>, 'kind'>): void {
    this.#send({ kind: 'ready', ...ready });
  }

  alive(): void {
    this.#send({ kind: 'alive' });
  }

  failed(failed: Omit<Extract<ToSupervisor, { kind: 'failed' }>, 'kind'>): void {
    this.#send({ kind: 'failed', ...failed });
  }

  /**
   * Has the tree taken away. When it is, this process has `endMaxMs` to end by itself; undefined: as long as it likes.
   * Rejects with EAGAIN when there is no supervisor.
   */
  stop(lazy: boolean, endMaxMs: number | undefined): Promise<HideResult> {
    if (!process.connected) return Promise.reject(noSupervisor());
    const { promise, resolve } = Promise.withResolvers<HideResult>();
    const id = this.#nextStop++;
    this.#stops.set(id, resolve);
    this.#send({ kind: 'stop', id, lazy, endMaxMs });
    return promise;
  }

  /**
   * Has another daemon started that could take this one's place; one at a time. Resolves with whether it is there.
   * Rejects with EAGAIN when there is no supervisor, EOPNOTSUPP when it is of an older Ebb.
   */
  async successor(): Promise<boolean> {
    if (!process.connected) throw noSupervisor();
    if (!this.#canReplace) {
      const message = 'the supervisor of this tree is of an older Ebb: attach the tree again';
      throw ebbError('EOPNOTSUPP', message);
    }
    this.#successor = Promise.withResolvers();
    this.#send({ kind: 'successor' });
    return await this.#successor.promise;
  }

  /** This process is going to be killed, and its successor follows. */
  replace(): void {
    this.#send({ kind: 'replace' });
  }

  /** The channel no longer keeps the process alive. */
  release(): void {
    if (process.connected) process.channel?.unref();
  }

  #send(message: ToSupervisor): void {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  }
}

function noSupervisor(): EbbError {
  const message = 'the supervisor of the tree has died, another one is being started';
  return ebbError('EAGAIN', message, { retryable: true });
}
