/** `ebb get`: recall whole files now, ahead of being read. */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const get: Verb = {
  name: 'get',
  summary: 'bring content here',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Recalls whole files, so that reading them later needs no network. A directory means everything below it. ' +
      'What is here already is not fetched again; an interrupted get goes on where it stopped.',
    'PATH may be a pattern in quotes: *, ?, [...], and ** for any depth. A relative pattern outside of all mounts ' +
      'means the only mount there is.',
    'On a terminal a line shows progress, rate and time left; elsewhere one line per file is printed.',
  ],
  exitCodes: {
    3: 'Some files were refused (no room that could be made, for instance); none failed.',
  },
  examples: [
    { command: 'ebb get /mnt/pub/debian.iso', explanation: 'One file.' },
    { command: "ebb get '/mnt/pub/**/*.deb'", explanation: 'All packages at any depth.' },
    {
      command: 'ebb find /mnt/pub --size -1M -0 | ebb get -0 -f -',
      explanation: 'All files of less than one mebibyte.',
    },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'get',
      { done: 'fetched', planned: 'would be fetched', movesBytes: true },
      command,
      terminal,
    ),
};
