/** `ebb unpin`: let files be released again. */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const unpin: Verb = {
  name: 'unpin',
  summary: 'let files be released again',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Takes the pin from files (see ebb pin --help). Nothing is released by this alone.',
    'A directory means everything below it.',
  ],
  examples: [
    { command: 'ebb unpin /mnt/pub/models', explanation: 'Everything below a directory.' },
    {
      command: 'ebb find /mnt/pub --pinned -0 | ebb unpin -0 -f -',
      explanation: 'Everything that is pinned.',
    },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'unpin',
      { done: 'unpinned', planned: 'would be unpinned', movesBytes: false },
      command,
      terminal,
    ),
};
