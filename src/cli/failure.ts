/** Services and helper programs that did nothing, and said why. */
import type { Failure } from '../daemon/start-api.ts';
import { visibleSentence } from './terminal.ts';
import type { Terminal } from './terminal.ts';
import type { ExitCode } from './verb.ts';

/** `who`: `ebb mount`. The sentence may end with lines of a log, which are indented. Gives the exit code. */
export function complain(
  failure: Failure,
  who: string,
  json: boolean,
  terminal: Terminal,
): ExitCode {
  if (json) terminal.print(JSON.stringify(failure));
  const [first = '', ...rest] = failure.error.split('\n');
  terminal.warn(`${who}: ${visibleSentence(first)}`);
  for (const line of rest) terminal.warn(`    ${visibleSentence(line)}`);
  return failure.exitCode;
}
