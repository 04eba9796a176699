/**
 * A server process for the mount tests: mounts a file system module and serves it until told otherwise.
 *
 *   node serve.ts '{"module": "./memory-filesystem.ts", "mountPoint": "/tmp/x", ...}'
 *
 * Prints one JSON object per line: what happened. Reads one command per line: `stop`, `unmount`, `abort`, `exit`;
 * others are passed to the file system.
 */
import { createInterface } from 'node:readline';
import {
  deviceTransport,
  FuseThreads,
  initFlagNames,
  mountPrivileged,
  mountUnprivileged,
  Replier,
} from '../../src/fuse/public.ts';
import type { MountOptions, NegotiationOptions } from '../../src/fuse/public.ts';

export interface ServeRequest {
  readonly module: string;
  readonly mountPoint: string;
  readonly unprivileged?: boolean;
  readonly threads?: number;
  readonly workerData?: unknown;
  readonly options?: NegotiationOptions;
  readonly mount?: Partial<MountOptions>;
}

interface DeferredMessage {
  readonly answer: { readonly unique: number; readonly resent: boolean };
  readonly text: string;
}

const say = (event: Record<string, unknown>): void => console.log(JSON.stringify(event));

const request = JSON.parse(process.argv[2] ?? '{}') as ServeRequest;
const mountOptions: MountOptions = {
  mountPoint: request.mountPoint,
  fsname: 'test,fs',
  subtype: 'ebbtest',
  defaultPermissions: true,
  ...request.mount,
};
const connection =
  request.unprivileged === true
    ? await mountUnprivileged(mountOptions)
    : mountPrivileged(mountOptions);
const replier = new Replier(deviceTransport(connection.fileDescriptor));

/** What the file system handed over is answered here, on the main thread. */
function answerDeferred(message: unknown): void {
  const { answer, text } = message as DeferredMessage;
  say({ event: 'deferred', taken: replier.data(answer, Buffer.from(text)) });
}

const server = await FuseThreads.start({
  deviceFileDescriptor: connection.fileDescriptor,
  moduleUrl: new URL(request.module, import.meta.url),
  workerData: request.workerData,
  threads: request.threads,
  options: request.options,
  onProblem: (problem) => say({ event: 'problem', ...problem }),
  onMessage: (message) => {
    if (typeof message === 'object' && message !== null && 'answer' in message) {
      answerDeferred(message);
    } else say({ event: 'message', message });
  },
});
say({ event: 'serving', connection: connection.connectionNumber });
server.connected.then(
  (info) => say({ event: 'connected', minor: info.kernelMinor, flags: initFlagNames(info.flags) }),
  () => undefined,
);
const commands = createInterface({ input: process.stdin });
commands.on('line', (line) => {
  if (line === 'stop') void server.stop();
  else if (line === 'exit') process.exit(7);
  else if (line === 'abort') void connection.abort();
  else if (line === 'unmount') {
    connection.unmount().then(
      () => say({ event: 'unmounted' }),
      (error: unknown) => say({ event: 'unmount failed', message: String(error) }),
    );
  } else server.post(line);
});
server.ended.then(
  (end) => {
    say({ event: 'ended', end });
    connection.close();
    commands.close();
    process.stdin.destroy();
  },
  (error: unknown) => {
    say({ event: 'failed', message: String(error) });
    process.exitCode = 1;
  },
);
