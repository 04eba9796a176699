/** Verbs that only look: what is wrong with one PATH does not keep the others from being shown. */
import { toEbbError } from '../base/errors.ts';
import { Mounts } from './target.ts';
import type { Target } from './target.ts';
import { visible, visibleSentence } from './terminal.ts';
import type { Terminal } from './terminal.ts';
import { ExitCode, UsageError } from './verb.ts';

/** Without `typed`: as `Mounts.locateAll`. Throws UsageError. */
export async function eachTarget(
  verb: string,
  typed: readonly string[],
  terminal: Terminal,
  work: (target: Target) => Promise<void>,
): Promise<ExitCode> {
  const mounts = new Mounts();
  if (typed.length === 0) {
    for (const target of mounts.locateAll([])) await work(target);
    return ExitCode.done;
  }
  let code: ExitCode = ExitCode.done;
  for (const one of typed) {
    let target: Target | undefined;
    try {
      target = mounts.locate(one);
      await work(target);
    } catch (thrown) {
      if (thrown instanceof UsageError) throw thrown;
      const { message } = toEbbError(thrown);
      const rest = withoutName(target?.inside, message);
      const name = rest === message ? '' : `${visible(one)}: `;
      terminal.warn(`ebb ${verb}: ${name}${visibleSentence(rest)}`);
      code = ExitCode.failed;
    }
  }
  return code;
}

/** A daemon's message without the name that it has for a path: the user gets the one that he has typed. */
export function withoutName(inside: string | undefined, message: string): string {
  const name = `${inside}: `;
  return inside !== undefined && message.startsWith(name) ? message.slice(name.length) : message;
}
