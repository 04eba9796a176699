/**
 * The descriptor store of systemd (sd_notify(3), FDSTORE=1; systemd.service(5), FileDescriptorStoreMax=): what lies
 * in it outlives every process of the service, and the next one that is started gets it (sd_listen_fds(3)).
 *
 * systemd does not say whether it has taken something in. BARRIER=1 tells when it has looked at everything, and a
 * pledge that is sent last tells that there was room for it and so for all before it: an end that was thrown away
 * hangs up.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../base/errors.ts';
import { notify } from '../sys/notify-socket.ts';
import { isHeld, makePledge, untilReleased } from './pledge.ts';
import type { Pledge } from './pledge.ts';

/** What a busy manager gets to take something in. */
const answerMaxMs = 10_000;
const queueFullPauseMs = 20;
/** Each supervisor has a pledge of its own name: a successor's is there before its predecessor's goes. */
const pledgePrefix = 'ebb-pledge-';

export function isPledgeName(name: string): boolean {
  return name.startsWith(pledgePrefix);
}

export type Log = (level: 'info' | 'warn' | 'error', message: string) => void;

/** Who keeps descriptors of a tree over the death of all of its processes. */
export interface Keeping {
  /** For a supervisor that begins. `theirs` is for `keep`. */
  pledge(): Pledge;
  /** False: it does not. `former`: pledges of predecessors. */
  keep(
    descriptors: ReadonlyMap<string, { readonly fd: number }>,
    pledge: Pledge,
    former?: readonly string[],
  ): Promise<boolean>;
  /** Resolves when it keeps nothing any more; `names`: and what a predecessor has given. */
  drop(names?: Iterable<string>): Promise<void>;
  /** The tree is attached. */
  started(): Promise<void>;
}

export class DescriptorStore implements Keeping {
  readonly #address: string;
  readonly #log: Log;
  #names: readonly string[] = [];

  constructor(address: string, log: Log) {
    this.#address = address;
    this.#log = log;
  }

  /** Of the service that this process is the main part of. Undefined: it is none that could be spoken to. */
  static ofService(
    log: Log,
    environment: Readonly<Record<string, string | undefined>> = process.env,
  ): DescriptorStore | undefined {
    const address = environment['NOTIFY_SOCKET'];
    return address === undefined || address === '' ? undefined : new DescriptorStore(address, log);
  }

  pledge(): Pledge {
    return makePledge();
  }

  /**
   * Puts these and the manager's end of `pledge` into the store, and closes that end here. False: they are not there,
   * none of them, and the pledge is broken. Never throws. What is there already under the same name may come again;
   * `former`: pledges of predecessors, which go once this one holds.
   */
  async keep(
    descriptors: ReadonlyMap<string, { readonly fd: number }>,
    pledge: Pledge,
    former: readonly string[] = [],
  ): Promise<boolean> {
    const pledgeName = `${pledgePrefix}${randomBytes(8).toString('hex')}`;
    this.#names = [...descriptors.keys(), ...former, pledgeName];
    try {
      using theirs = pledge.theirs;
      for (const [name, { fd }] of descriptors) await this.#store(name, fd);
      await this.#store(pledgeName, theirs.fd);
      await this.#barrier();
      for (const name of former) await this.#remove(name);
    } catch (error) {
      this.#log('warn', `the service manager keeps no descriptors: ${toEbbError(error).message}`);
      await this.drop();
      return false;
    }
    if (isHeld(pledge.ours.fd)) return true;
    this.#log(
      'info',
      'the service manager keeps no descriptors (FileDescriptorStoreMax=, NotifyAccess=all)',
    );
    await this.drop();
    return false;
  }

  /**
   * Takes everything out of the store that `keep` has put there, the first one last; `names`: and what a predecessor
   * has. Never throws: a manager that does not answer drops it when the service ends.
   */
  async drop(names: Iterable<string> = []): Promise<void> {
    try {
      for (const name of new Set([...names, ...this.#names].toReversed())) await this.#remove(name);
      await this.#barrier();
    } catch (error) {
      this.#log('warn', `the service manager keeps its descriptors: ${toEbbError(error).message}`);
    }
    this.#names = [];
  }

  /** The service has started: what `Type=notify` waits for. Never throws. */
  async started(): Promise<void> {
    await this.#send('READY=1').catch((error: unknown) => {
      this.#log('warn', `the service manager was not told: ${toEbbError(error).message}`);
    });
  }

  /** Not polled: what hangs up would be thrown away, and the pledge's end does when everybody has died. */
  #store(name: string, fd: number): Promise<void> {
    return this.#send(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, fd);
  }

  #remove(name: string): Promise<void> {
    return this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  }

  /** Resolves when the manager has looked at all that was sent: it closes what came with this. */
  async #barrier(): Promise<void> {
    using barrier = makePledge();
    await this.#send('BARRIER=1', barrier.theirs.fd);
    barrier.theirs.close();
    if (await untilReleased(barrier.ours.fd, answerMaxMs)) return;
    throw ebbError('ETIMEDOUT', `it did not answer within ${answerMaxMs} ms`);
  }

  async #send(text: string, fd?: number): Promise<void> {
    const endsAtMs = performance.now() + answerMaxMs;
    while (!notify(this.#address, text, fd)) {
      if (performance.now() >= endsAtMs) throw ebbError('EAGAIN', 'its queue is full');
      await sleep(queueFullPauseMs);
    }
  }
}
