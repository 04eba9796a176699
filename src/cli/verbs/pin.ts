/** `ebb pin`: never release these files to make room. */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const pin: Verb = {
  name: 'pin',
  summary: 'keep files: never release them to make room',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Pinned files are never released, neither automatically nor by ebb release, until they are unpinned. ' +
      'A directory means the files below it now. Pinning fetches nothing: use ebb get as well to have the ' +
      'content here.',
  ],
  examples: [
    {
      command: 'ebb pin /mnt/pub/models && ebb get /mnt/pub/models',
      explanation: 'Has a directory here and keeps it.',
    },
    { command: 'ebb find /mnt/pub --pinned', explanation: 'Lists what is pinned.' },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'pin',
      { done: 'pinned', planned: 'would be pinned', movesBytes: false },
      command,
      terminal,
    ),
};
