/** Requests of the kernel that wait for a question to the main thread. */
import { Errno } from '../base/errno.ts';
import type { Call } from '../fuse/filesystem.ts';
import type { Requester } from '../recall/recall.ts';
import { later } from './answerer.ts';
import type { Answerer } from './answerer.ts';
import type { Answer } from './bridge.ts';
import type { Question } from './messages.ts';
import type { MountServices } from './services.ts';

export function requesterOf(call: Call): Requester {
  return { pid: call.pid, uid: call.uid, gid: call.gid };
}

/**
 * Asks main and finishes the request with `done` when the answer is there; EAGAIN when too many wait. `call`: undefined
 * when the request waited for an answer before, and `answer` is one for later already.
 */
export function ask(
  { bridge, answers }: Pick<MountServices, 'bridge' | 'answers'>,
  answer: Answerer,
  call: Call | undefined,
  who: Requester,
  question: Question,
  done: (later: Answerer, reply: Answer) => void,
): void {
  if (bridge.isFull) return void answer.error(Errno.EAGAIN);
  const finish = call === undefined ? answer : later(answers, call.defer());
  bridge.ask(question, who, finish.unique, (reply) => {
    try {
      done(finish, reply);
    } catch (error) {
      // Whoever waits must hear something; a second answer would only find the request gone.
      finish.error(Errno.EIO);
      throw error;
    }
  });
}
