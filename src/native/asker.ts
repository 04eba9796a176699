/** Who is blocked in a question, and what he is about to do. Found out once for it. */
import type { Question } from './messages.ts';
import type { AskerFacts, Verdicts } from './policy.ts';
import { requesterOf, systemCallOf } from './requester.ts';
import type { RequesterFacts, SeenCall } from './requester.ts';
import { effectAtOpen } from './syscall.ts';

export interface Asker {
  readonly requester: RequesterFacts;
  readonly facts: AskerFacts;
  /** `SeenCall.text`. */
  readonly callText: string | undefined;
}

/** Never rejects. A promise only where `systemCallOf` is one. */
export function askerOf(question: Question, verdicts: Verdicts): Asker | Promise<Asker> {
  const call = systemCallOf(question.tid, question.seen?.callText);
  if (call instanceof Promise) return call.then((known) => askerWith(known, question, verdicts));
  return askerWith(call, question, verdicts);
}

function askerWith(call: SeenCall, { tid, group, seen }: Question, verdicts: Verdicts): Asker {
  const requester = seen?.requester ?? requesterOf(tid);
  const { executable, name } = requester;
  const { streams, maps } = call;
  const effect = group === 'open' ? effectAtOpen(call) : call.effect;
  const verdict = verdicts.of(executable, name);
  const looksForHoles = verdicts.looksForHoles(executable, name);
  const facts = { effect, streams, maps, verdict, looksForHoles };
  return { requester, facts, callText: call.text };
}
