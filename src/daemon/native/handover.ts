/**
 * `ebb daemon restart` of a tree: another daemon takes this one's place, and no call of anybody fails. The kernel knows
 * an event that a daemon has taken by that daemon's descriptor, so nobody else can answer it: first all that was taken
 * is answered, and what comes meanwhile waits in the kernel for the successor, which is ready by then.
 */
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { NativeServer } from '../../native/server.ts';
import type { NativeStubStore } from '../../tree/stubs/store.ts';
import type { SupervisorLink } from './supervisor-link.ts';

/** For so long everybody may have to wait because somebody is still being served. Then nothing happens. */
const holdMaxMs = 20_000;
/** The supervisor kills this process at once. If it does not, somebody has to serve. */
const killMaxMs = 30_000;

export interface HandoverOptions {
  readonly server: NativeServer;
  readonly store: NativeStubStore;
  readonly link: SupervisorLink;
}

export class Handover {
  readonly #options: HandoverOptions;
  #isRunning = false;

  constructor(options: HandoverOptions) {
    this.#options = options;
    // Nobody would kill this process, and it serves on, or takes the tree away.
    void options.link.lost.then(() => options.server.goOn());
  }

  /**
   * When it resolves, nobody waits for this process any more and everything is written down: it is killed a moment
   * later. Rejects, and serving goes on: EBUSY when somebody is served for too long, or another one asks for the same;
   * EIO when no other daemon can be started; EOPNOTSUPP, EAGAIN by the supervisor.
   */
  async run(): Promise<void> {
    if (this.#isRunning) throw ebbError('EBUSY', 'another daemon is being started already');
    this.#isRunning = true;
    try {
      await this.#handOver();
    } finally {
      this.#isRunning = false;
    }
  }

  async #handOver(): Promise<void> {
    const { server, store, link } = this.#options;
    if (!(await link.successor())) {
      throw ebbError('EIO', 'no other daemon can be started; this one goes on (see: ebb log)');
    }
    try {
      await server.hold(holdMaxMs);
      await store.flush();
    } catch (error) {
      server.goOn();
      const { code, message } = toEbbError(error);
      const sentence = `${message}: the daemon was not replaced, try again later`;
      throw ebbError(code, sentence, { cause: error, retryable: true });
    }
    // After the answer.
    setImmediate(() => link.replace());
    setTimeout(() => server.goOn(), killMaxMs).unref();
  }
}
