/** `ebb release`: free the local blocks of files that the remote still holds. */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const release: Verb = {
  name: 'release',
  summary: 'free local copies; the names stay',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Frees the local blocks of files. Their names, sizes and times stay; reading one recalls it again. ' +
      'A directory means everything below it.',
    'A file is released only when the remote confirms, now, that it holds this very version. Refused are files ' +
      'that are open or being recalled, pinned files, and files that the remote no longer has or has changed: ' +
      'the local copy may be the last one.',
  ],
  exitCodes: {
    3: 'Some files were refused for safety; standard error says which and why. None failed.',
  },
  examples: [
    { command: 'ebb release -n /mnt/pub', explanation: 'Shows what would be freed.' },
    { command: 'ebb release /mnt/pub/old', explanation: 'Frees everything below a directory.' },
    {
      command: 'ebb find /mnt/pub --state DUL --size +1G -0 | ebb release -0 -f -',
      explanation: 'Frees all big files that are wholly here.',
    },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'release',
      { done: 'released', planned: 'would be released', movesBytes: false },
      command,
      terminal,
    ),
};
