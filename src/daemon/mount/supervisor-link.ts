/** A mount daemon's end of the channel to its supervisor (src/supervisor/mount-messages.ts). */
import { ebbError } from '../../base/errors.ts';
import type { ConnectionInfo } from '../../fuse/filesystem.ts';
import { Connection } from '../../fuse/connection.ts';
import { writeCulprit } from '../../mount/request-journal.ts';
import { MountInherited, mountProtocolVersion } from '../../supervisor/mount-messages.ts';
import type {
  Established,
  ToMountDaemon,
  ToMountSupervisor,
} from '../../supervisor/mount-messages.ts';
import { duplicateFd, OwnedFd } from '../../sys/fd.ts';
import { sendFd } from '../../sys/socket.ts';

export type Start = Extract<ToMountDaemon, { kind: 'start' }>;

/** A mount that a former daemon has made. */
export interface Inherited {
  readonly connection: Connection;
  readonly info: ConnectionInfo;
}

export class SupervisorLink {
  /** Resolves when this daemon is to serve. Rejects with EPROTO when the supervisor is another Ebb's. */
  readonly started: Promise<Start>;
  /** Resolves when the mount is to be taken away. */
  readonly stopped: Promise<void>;
  /** Resolves when the supervisor is gone: nobody would start another daemon. */
  readonly lost: Promise<void>;
  /** The file of src/mount/handle-table.ts. */
  readonly handles: OwnedFd;
  /** The file of src/mount/scan-log.ts. */
  readonly scans: OwnedFd;
  readonly #link: OwnedFd;
  #requests: OwnedFd | undefined;

  /** Takes the inherited descriptors over; once in a process. */
  constructor() {
    this.handles = take(MountInherited.handles);
    this.scans = take(MountInherited.scans);
    this.#link = take(MountInherited.link);
    const started = Promise.withResolvers<Start>();
    const stopped = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<void>();
    this.started = started.promise;
    this.stopped = stopped.promise;
    this.lost = lost.promise;
    process.on('message', (raw) => {
      const message = raw as ToMountDaemon;
      if (message.kind === 'stop') return stopped.resolve();
      if (message.protocol === mountProtocolVersion) return started.resolve(message);
      const why = 'another version of Ebb supervises this mount: unmount it and mount it again';
      started.reject(ebbError('EPROTO', why));
    });
    const onLost = (): void => {
      lost.resolve();
      started.reject(ebbError('ESHUTDOWN', 'the supervisor of the mount is gone'));
    };
    if (process.connected) process.once('disconnect', onLost);
    else onLost();
  }

  /** What a former daemon mounted. */
  inherited(established: Established): Inherited {
    const { mountPoint, isPrivileged, flags, remoteRoot: _remoteRoot, ...rest } = established;
    const device = duplicateFd(this.#link.fd);
    this.#link.close();
    return {
      connection: new Connection(device, mountPoint, isPrivileged),
      info: { ...rest, flags: BigInt(flags) },
    };
  }

  /** The file of src/mount/request-journal.ts, when the supervisor has one. */
  requests({ hasRequestJournal }: Start): OwnedFd | undefined {
    if (hasRequestJournal === true) this.#requests ??= take(MountInherited.requests);
    return this.#requests;
  }

  /** From now on requests of the kernel are taken. */
  takingOver(): void {
    this.#send({ kind: 'takingOver' });
  }

  /** This process dies of an exception that was thrown for a request of the kernel. */
  diesOf(unique: number): void {
    if (this.#requests !== undefined) writeCulprit(this.#requests.fd, unique);
  }

  warm(): void {
    this.#send({ kind: 'warm' });
  }

  /** Gives the supervisor what the next daemon needs. Only after INIT. */
  mounted(
    connection: Connection,
    { flags, ...rest }: ConnectionInfo,
    remoteRoot: string | undefined,
  ): void {
    const { mountPoint, isPrivileged } = connection;
    sendFd(this.#link.fd, connection.fileDescriptor);
    this.#link.close();
    const established = { mountPoint, isPrivileged, ...rest, flags: String(flags), remoteRoot };
    this.#send({ kind: 'mounted', established });
  }

  ready(facts: Extract<ToMountSupervisor, { kind: 'ready' }>['facts']): void {
    this.#send({ kind: 'ready', facts });
  }

  failed(failed: Omit<Extract<ToMountSupervisor, { kind: 'failed' }>, 'kind'>): void {
    this.#send({ kind: 'failed', ...failed });
  }

  alive(): void {
    this.#send({ kind: 'alive' });
  }

  /** This process is going to be killed. */
  restart(): void {
    this.#send({ kind: 'restart' });
  }

  /** The channel no longer keeps the process alive. */
  release(): void {
    if (process.connected) process.channel?.unref();
  }

  #send(message: ToMountSupervisor): void {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  }
}

/** Close-on-exec, as what we open ourselves. */
function take(fd: number): OwnedFd {
  using inherited = new OwnedFd(fd);
  return duplicateFd(inherited.fd);
}
