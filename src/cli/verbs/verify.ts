/** `ebb verify`: is what is here still what the remote holds? */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const verify: Verb = {
  name: 'verify',
  summary: 'compare local content with the bytes of the remote',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Checks files that are here, wholly or partly: what is here is fetched again, of the version that it is said to ' +
      'be, and compared byte by byte. So it costs the transfer of all that is checked. Nothing is changed or ' +
      'released. A directory means everything below it; files of which nothing is here are skipped.',
  ],
  exitCodes: {
    1: 'Some file differs or could not be checked; standard error says which and how.',
  },
  examples: [
    { command: 'ebb verify /mnt/pub', explanation: 'Everything of a mount that is here.' },
    { command: 'ebb verify --json /mnt/pub/a.iso', explanation: 'One file, for a script.' },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'verify',
      { done: 'verified', planned: 'would be verified', movesBytes: true },
      command,
      terminal,
    ),
};
