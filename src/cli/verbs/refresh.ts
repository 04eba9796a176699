/** `ebb refresh`: do not wait for the time to live; ask the remote again now. */
import { defineAction, runAction } from '../action.ts';
import type { Verb } from '../verb.ts';

export const refresh: Verb = {
  name: 'refresh',
  summary: 'ask the remote again now',
  synopsis: ['[-n] [-q] [--json] PATH...', '[-n] [-0] -f LIST'],
  description: [
    'Listings and versions are trusted for the time given by ebb mount --ttl. This asks the remote now: ' +
      'directories are listed again (a directory means its own listing, not what is below it), files are checked ' +
      'for a new version. Content that is here and unchanged stays; programs that have a file open keep the ' +
      'version they opened.',
    'In an attached tree nothing asks the remote but this: a directory means all that is below it. Names that the ' +
      'remote has come, names that it has no longer go unless content of them is here, and changed files get ' +
      'their new version unless they were changed here.',
    'A PATH with *, ? or [ is a pattern: everything that it matches is asked about, directories, too; ** stands ' +
      'for any number of directories.',
    'What was found is counted in names: new, updated, gone, kept as they are here, and left out (the file system ' +
      'cannot hold them, or they are pipes, sockets or devices); ebb log names what was kept and left out. ' +
      'Where the listing of a web server does not tell enough of a file, it is asked about when it is next used.',
    'With -n nothing is asked: patterns match what is known.',
  ],
  exitCodes: {
    1: 'The remote could not be asked about something; standard error says about what and why.',
  },
  examples: [
    { command: 'ebb refresh /mnt/pub/incoming', explanation: 'Shows new files at once.' },
    {
      command: "ebb refresh '/mnt/pub/**/*.iso'",
      explanation: 'Has any of the images a new version?',
    },
  ],
  define: defineAction,
  run: (command, terminal) =>
    runAction(
      'refresh',
      {
        done: 'refreshed',
        planned: 'would be refreshed',
        movesBytes: false,
        things: ['entry', 'entries'],
      },
      command,
      terminal,
    ),
};
