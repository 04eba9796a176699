/** `ebb handle`: a token for a file, and taking tokens back. */
import { toEbbError } from '../../base/errors.ts';
import { withoutName } from '../each-target.ts';
import { absoluteInMount, Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { clientOfToken } from '../token-target.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface Options {
  readonly revoke?: boolean;
  readonly json?: boolean;
}

export const handle: Verb = {
  name: 'handle',
  summary: 'tokens that open files whatever their names will be',
  synopsis: ['[--json] FILE...', '--revoke TOKEN...'],
  description: [
    'Prints a token for each FILE of a mount or tree. In a mount it stands for this version of the file: ' +
      'ebb open TOKEN reads it after a remount, a restart, a reboot, and needs no path. When the remote has another ' +
      'version, or the file is gone, the token is refused (ESTALE); it never leads to other bytes.',
    'In a tree it stands for the file, as long as that has a name, whatever users call it and make of it. Files that ' +
      'did not come from the remote have none.',
    'Tokens cannot be made up: they are sealed with the secret of the cache. Whoever has one still needs access to ' +
      'the control socket to use it. --revoke takes back all tokens of the file that TOKEN stands for; ' +
      'ebb mount --new-handles (of a tree: ebb rebuild) takes back those of all files.',
  ],
  exitCodes: { 1: 'Some FILE or TOKEN was refused; the others were done.' },
  examples: [
    { command: 'token=$(ebb handle /mnt/pub/debian.iso)', explanation: 'Takes a token.' },
    { command: 'ebb open --range 0-511 "$token"', explanation: 'Reads by it.' },
    { command: 'ebb handle --revoke "$token"', explanation: 'Takes it back.' },
  ],
  define: (command) => {
    command
      .argument('<FILE|TOKEN...>')
      .option('--revoke', 'Takes back the tokens of the files that these tokens stand for.')
      .option('--json', 'Prints one JSON object a line: {"path", "token"} with an absolute path.');
  },
  run: async (command, terminal) => {
    const { revoke, json } = command.opts<Options>();
    const mounts = new Mounts();
    let code: ExitCode = ExitCode.done;
    for (const typed of command.args) {
      try {
        if (revoke === true) {
          await (await clientOfToken(typed, mounts)).revoke(typed);
          continue;
        }
        const { client, inside } = mounts.locate(typed);
        const token = await client.handle(inside);
        const path = absoluteInMount(client.record.mountPoint, inside);
        terminal.print(json === true ? JSON.stringify({ path, token }) : token);
      } catch (error) {
        const { message } = toEbbError(error);
        const inside = revoke === true ? undefined : mounts.tryLocate(typed)?.inside;
        const sentence = visibleSentence(withoutName(inside, message));
        terminal.warn(`ebb handle: ${visible(typed)}: ${sentence}`);
        code = ExitCode.failed;
      }
    }
    return code;
  },
};
