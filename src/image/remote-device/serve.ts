/** The fetching end of a channel: answers questions from a store of blocks. */
import type { MessagePort } from 'node:worker_threads';
import { toEbbError } from '../../base/errors.ts';
import type { BlockStore } from './block-store.ts';
import { ChannelState } from './channel.ts';
import type { ChannelFailure, ChannelMemory, ChannelQuestion } from './channel.ts';

/** Answers until the port is closed. Failures go to the reader, with their errno. */
export function serveChannel(memory: ChannelMemory, port: MessagePort, store: BlockStore): void {
  const state = new Int32Array(memory.state);
  const data = new Uint8Array(memory.data);
  const settle = (outcome: number): void => {
    Atomics.store(state, 0, outcome);
    Atomics.notify(state, 0);
  };
  port.on('message', (question: ChannelQuestion) => {
    if (question.kind === 'prefetch') {
      store.prefetch(question.ranges);
      return;
    }
    const { offsetBytes, sizeBytes } = question;
    store.read(offsetBytes, data.subarray(0, sizeBytes)).then(
      () => settle(ChannelState.answered),
      (error: unknown) => {
        const { code, message, retryable } = toEbbError(error);
        const failure: ChannelFailure = { code, message, retryable };
        port.postMessage(failure);
        settle(ChannelState.failed);
      },
    );
  });
}
