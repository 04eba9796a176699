/** `ebb explain`: why is this file as it is, and what can be done about it? */
import { toEbbError } from '../../base/errors.ts';
import { withoutName } from '../each-target.ts';
import { renderFacts } from '../table.ts';
import { absoluteInMount, Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

export const explain: Verb = {
  name: 'explain',
  summary: 'say why a file is in the state it is in',
  synopsis: ['[--json] PATH...'],
  description: [
    'Prints a sentence about each PATH (its state, why it is so, what can be done) and the facts behind it: ' +
      'version, which ranges are here, how often it is open through the mount and by which processes, whether it ' +
      'could be released now (the remote is asked for that, if anything is here), the last error.',
  ],
  examples: [{ command: 'ebb explain /mnt/pub/debian.iso', explanation: 'One file.' }],
  define: (command) => {
    command
      .argument('<PATH...>')
      .option('--json', 'Prints one JSON object a line: Explanation with an absolute path.');
  },
  run: async (command, terminal) => {
    const json = command.opts<{ json?: boolean }>().json === true;
    const mounts = new Mounts();
    let code: ExitCode = ExitCode.done;
    for (const typed of command.args) {
      try {
        const { client, inside } = mounts.locate(typed);
        const answer = await client.explain(inside);
        if (json) {
          const path = absoluteInMount(client.record.mountPoint, inside);
          terminal.print(JSON.stringify({ ...answer, path }));
          continue;
        }
        terminal.print(`${visible(typed)}: ${answer.state}`);
        terminal.print(`  ${visibleSentence(answer.summary)}`);
        const facts = answer.facts.map(
          ([label, value]) => [visible(label), visible(value)] as const,
        );
        for (const line of renderFacts(facts)) terminal.print(line);
      } catch (error) {
        const { message } = toEbbError(error);
        const sentence = visibleSentence(withoutName(mounts.tryLocate(typed)?.inside, message));
        terminal.warn(`ebb explain: ${visible(typed)}: ${sentence}`);
        code = ExitCode.failed;
      }
    }
    return code;
  },
};
