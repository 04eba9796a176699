/** The first range that a reader asks for, where it is there for the taking (recall/front.ts). */
import type { Recall } from '../recall/recall.ts';
import type { StubFile } from '../tree/stubs/stub-store.ts';
import type { PendingQuestion } from './answers.ts';
import type { Recall as Range } from './policy.ts';

/**
 * True: it is in the file, and who asked was let on in the same turn: nothing came between. `isTaken`: somebody came
 * who is to change the file, and goes first. Rejects with what makes recalls of the file fail.
 */
export async function allowFront(
  recall: Pick<Recall, 'front'>,
  file: StubFile,
  { offsetBytes, lengthBytes }: Range,
  pending: PendingQuestion,
  isTaken: () => boolean,
): Promise<boolean> {
  let front = recall.front(file, offsetBytes, lengthBytes);
  if (front instanceof Promise) {
    await pending.answeredOr(front);
    if (pending.isAnswered || isTaken()) return false;
    front = recall.front(file, offsetBytes, lengthBytes);
  }
  return front === true && pending.allow();
}
