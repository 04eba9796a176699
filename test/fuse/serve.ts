/**
 * A server process for the mount tests: mounts a file system module and serves it until told
 * otherwise.
 *
 *   node serve.ts '{"module": "./memory-filesystem.ts", "mountPoint": "/tmp/x", ...}'
 *
 * Prints one JSON object per line: what happened. Reads one command per line: `stop`, `unmount`,
 * `abort`, `exit`, `restart`, `{"notify": ...}`; others are passed to the file system.
 */
import { createInterface } from 'node:readline';
import {
  deviceTransport,
  FuseThreads,
  initFlagNames,
  mountPrivileged,
  mountUnprivileged,
  Notifier,
  Replier,
} from '../../src/fuse/public.ts';
import type {
  ConnectionInfo,
  LoopEnd,
  MountOptions,
  NegotiationOptions,
} from '../../src/fuse/public.ts';

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

type NotifierMethods = Record<string, ((...args: unknown[]) => unknown) | undefined>;

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
const transport = deviceTransport(connection.fileDescriptor);
const replier = new Replier(transport);
const commands = createInterface({ input: process.stdin });
let isRestarting = false;
let server: FuseThreads | undefined;

/** What the file system handed over is answered here, on the main thread. */
function heard(message: unknown): void {
  if (typeof message === 'object' && message !== null && 'answer' in message) {
    const { answer, text } = message as DeferredMessage;
    say({ event: 'deferred', taken: replier.data(answer, Buffer.from(text)) });
  } else say({ event: 'message', message });
}

async function start(established?: ConnectionInfo): Promise<void> {
  const started = await FuseThreads.start({
    deviceFileDescriptor: connection.fileDescriptor,
    moduleUrl: new URL(request.module, import.meta.url),
    workerData: request.workerData,
    threads: request.threads,
    options: request.options,
    established,
    onProblem: (problem) => say({ event: 'problem', ...problem }),
    onMessage: heard,
  });
  server = started;
  started.ended.then(ended, (error: unknown) => {
    say({ event: 'failed', message: String(error) });
    process.exitCode = 1;
    finish();
  });
}

function ended(end: LoopEnd): void {
  if (isRestarting) return;
  say({ event: 'ended', end });
  finish();
}

function finish(): void {
  connection.close();
  commands.close();
  process.stdin.destroy();
}

/** As a successor would take over: requests that were read but not answered are delivered again. */
async function restart(): Promise<void> {
  const info = await server?.connected;
  isRestarting = true;
  await server?.stop();
  await start(info);
  isRestarting = false;
  new Notifier(transport).resend();
  say({ event: 'restarted' });
}

/** `{"notify": "invalidateEntry", "args": [1, "name"]}`; strings become bytes. */
function notify(line: string): void {
  const { notify: method, args } = JSON.parse(line) as { notify: string; args: unknown[] };
  const bytes = args.map((value) => (typeof value === 'string' ? Buffer.from(value) : value));
  const notifier = new Notifier(transport) as unknown as NotifierMethods;
  say({ event: 'notified', message: method, result: notifier[method]?.(...bytes) });
}

function unmount(): void {
  connection.unmount().then(
    () => say({ event: 'unmounted' }),
    (error: unknown) => say({ event: 'unmount failed', message: String(error) }),
  );
}

commands.on('line', (line) => {
  if (line === 'stop') void server?.stop();
  else if (line === 'exit') process.exit(7);
  else if (line === 'abort') void connection.abort();
  else if (line === 'unmount') unmount();
  else if (line === 'restart') void restart();
  else if (line.startsWith('{')) notify(line);
  else server?.post(line);
});

await start();
say({ event: 'serving', connection: connection.connectionNumber });
server?.connected.then(
  (info) => say({ event: 'connected', minor: info.kernelMinor, flags: initFlagNames(info.flags) }),
  () => undefined,
);
