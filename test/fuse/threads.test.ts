/** The threads of a connection and who started them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FuseThreads } from '../../src/fuse/thread.ts';
import { setNonblocking } from '../../src/sys/fd.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { waitFor } from '../support/wait-for.ts';

test('what a file system says at once is heard when its starter has the threads', async () => {
  const [kernelEnd, deviceEnd] = socketPair();
  using _kernel = kernelEnd;
  using device = deviceEnd;
  setNonblocking(device.fd, true);
  const heard: boolean[] = [];
  let threads: FuseThreads | undefined;
  threads = await FuseThreads.start({
    deviceFileDescriptor: device.fd,
    moduleUrl: new URL('./chatty-filesystem.ts', import.meta.url),
    onMessage: () => heard.push(threads !== undefined),
  });
  try {
    await waitFor(() => heard.length > 0, { what: 'the message', timeoutMs: 20_000 });
    assert.deepEqual(heard, [true]);
  } finally {
    await threads.stop();
  }
});
