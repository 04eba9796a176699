/** The thread that reads a remote image: synchronous, asleep while main.ts fetches. */
import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import type { ImageRequest } from '../../image/reader/lines.ts';
import { runImageRequest } from '../../image/reader/run-request.ts';
import type { ChannelMemory } from '../../image/remote-device/channel.ts';
import { ChannelDevice } from '../../image/remote-device/device.ts';
import { descriptorOutput } from './output.ts';

const { memory, port, request } = workerData as {
  readonly memory: ChannelMemory;
  readonly port: MessagePort;
  readonly request: ImageRequest;
};
const exitCode = runImageRequest(new ChannelDevice(memory, port), request, descriptorOutput);
parentPort?.postMessage(exitCode);
