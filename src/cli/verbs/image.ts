/** `ebb image`: ext2, ext3 and ext4 images in user space. */
import { readAction, readActions } from '../image/actions.ts';
import type { ImageReadOptions } from '../image/actions.ts';
import { mountImage } from '../image/mount.ts';
import { defineRemoteOptions } from '../remote-options.ts';
import { UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

export const image: Verb = {
  name: 'image',
  actions: ['mount', ...readActions],
  summary: 'look into a disk image without trusting it',
  synopsis: [
    'mount [-o OPTION,...] [--json] IMAGE|URL DIR',
    'mount [...] [--cache-dir DIR] [--cache-size SIZE] [--min-free SIZE] URL DIR',
    'info [-o OPTION,...] [--json] IMAGE|URL',
    'ls [-l [-h]] [-R] [-o OPTION,...] [--json] IMAGE|URL [PATH...]',
    'cat [-o OPTION,...] IMAGE|URL PATH...',
    'cp [--force] [-o OPTION,...] [--json] IMAGE|URL PATH... DESTINATION',
    'check [-o OPTION,...] [--json] IMAGE|URL',
  ],
  description: [
    'mount shows the ext2, ext3 or ext4 file system in the file IMAGE at directory DIR, read-only. A process that ' +
      'has no rights at all reads the image, so that a malicious one can do no more than show wrong files: no kernel ' +
      'driver parses it, devices and set-user-id bits in it do not count. Works without root (package fuse3). Of a ' +
      'URL only what is looked at is fetched, and kept for the next time.',
    'The others need neither a mount nor root. They read raw and qcow2 images, with MBR or GUID partition tables or ' +
      'none. An image is never changed: a journal that was not replayed is replayed in memory. Of an image on a web ' +
      'server only the parts are fetched that are needed.',
    'info says what the image is; ls lists directories of it, cat writes files to standard output, cp copies files ' +
      'and whole trees out of it, with modes, times, user attributes, ACLs and holes, and owners where root does it; ' +
      'check says what in it cannot be read.',
    'cp leaves set-user-id and set-group-id bits, capabilities, devices, FIFOs and sockets behind, follows no ' +
      'symlink in the destination, and replaces files that are there only with --force. As cp -a, it copies into ' +
      'DESTINATION when that is a directory; the PATH / means all that is in the root.',
    'Options of -o: offset=BYTES, where the file system begins; partition=N; ro, which is always meant; noload: the ' +
      'journal is not replayed (what was changed last is missing); nofastcommit: only full transactions of the ' +
      'journal are replayed. Of mount alone: native: the kernel serves it all by itself, from a copy of the metadata ' +
      'that Ebb has written (root; takes a moment for each 10,000 files); allow_other: other users may look, too ' +
      '(default for root).',
  ],
  exitCodes: {
    1: 'Something could not be read or written (check: something is damaged); standard error says what.',
    3: 'All that could be copied was; special files were left out.',
  },
  examples: [
    { command: 'ebb image mount disk.img /mnt/disk', explanation: 'ebb umount takes it away.' },
    { command: 'ebb image info disk.qcow2', explanation: 'Format, partitions, file system.' },
    {
      command: 'ebb image mount https://example.org/images/disk.img /mnt/disk',
      explanation: 'The same of an image on a web server.',
    },
    {
      command: 'ebb image ls -l https://example.org/images/disk.img /etc',
      explanation: 'A directory of an image on a web server, without downloading the image.',
    },
    {
      command: 'ebb image cp -o partition=2 disk.img /home/ann ./rescued',
      explanation: 'A tree out of the second partition.',
    },
  ],
  define: (command) => {
    command
      .argument('<ACTION>')
      .argument('<IMAGE>')
      .argument('[PATH...]')
      .option('-o, --option <LIST>', 'Options, separated by commas; see above.', collect)
      .option('-l, --long', 'ls: mode, links, owner, group, size and time, too.')
      .option('-R, --recursive', 'ls: everything below.')
      .option('-h, --human-readable', 'ls -l: sizes with K, M, G.')
      .option('--force', 'cp: replaces files that are there.')
      .option(
        '--cache-dir <DIR>',
        'mount of a URL: where parts of the image are kept. Default /var/cache/ebb/NAME for root, else ' +
          '~/.cache/ebb/NAME.',
      )
      .option(
        '--cache-size <SIZE>',
        'mount of a URL: the copy grows no further than this. Parts that are not in it by then are ENOSPC, until it ' +
          'is mounted again. Default: no limit.',
      )
      .option(
        '--min-free <SIZE|PERCENT>',
        'mount of a URL: the same when the file system of the copy would have less free than this. Default 8M.',
      )
      .option('--json', 'Prints one JSON object a line: ImageLine.');
    defineRemoteOptions(command);
  },
  run: async (command, terminal) => {
    const [word = '', source = '', ...rest] = command.args;
    const options = command.opts<ImageReadOptions>();
    if (word === 'mount') {
      const [directory, more] = rest;
      if (directory === undefined || more !== undefined)
        throw new UsageError('mount wants IMAGE and DIR');
      const words = options.option ?? [];
      return mountImage(source, directory, words, options, options.json === true, terminal);
    }
    const action = readActions.find((known) => known === word);
    if (action === undefined) {
      throw new UsageError(`the actions are mount, ${readActions.join(', ')}, not "${word}"`);
    }
    return readAction(action, source, rest, options, terminal);
  },
};
