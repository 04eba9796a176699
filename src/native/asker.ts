/** Who is blocked in a question, and what he is about to do. Found out once for it, and only when it matters. */
import type { Question } from './messages.ts';
import type { AskerFacts, Verdicts } from './policy.ts';
import { requesterOf, systemCallOf } from './requester.ts';
import type { RequesterFacts } from './requester.ts';
import { effectAtOpen } from './syscall.ts';

export interface Asker {
  readonly requester: RequesterFacts;
  readonly facts: AskerFacts;
}

export function askerOf({ tid, group }: Question, verdicts: Verdicts): Asker {
  const requester = requesterOf(tid);
  const { executable, name } = requester;
  const call = systemCallOf(tid);
  const { streams, maps } = call;
  const effect = group === 'open' ? effectAtOpen(call) : call.effect;
  const verdict = verdicts.of(executable, name);
  const looksForHoles = verdicts.looksForHoles(executable);
  return { requester, facts: { effect, streams, maps, verdict, looksForHoles } };
}
