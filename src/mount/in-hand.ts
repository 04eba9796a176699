/**
 * Which request of the kernel the code that runs now in the main thread works for, however many callbacks and promises
 * lie between: an exception that nobody catches can be told to be that request's.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

interface InHand {
  readonly unique: number;
  isOver: boolean;
}

const storage = new AsyncLocalStorage<InHand>();

/** Does `work` on behalf of a request, until what it returns has settled. */
export async function inHand<T>(unique: number, work: () => Promise<T>): Promise<T> {
  const request: InHand = { unique, isOver: false };
  try {
    return await storage.run(request, work);
  } finally {
    request.isOver = true;
  }
}

/** The request that is being worked for; undefined: none that is still waiting (a connection outlives who made it). */
export function requestInHand(): number | undefined {
  const request = storage.getStore();
  return request === undefined || request.isOver ? undefined : request.unique;
}
