/** `ebb image`: ext2, ext3 and ext4 images in user space. */
import { mountImage } from '../image/mount.ts';
import { UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

interface ImageCliOptions {
  readonly option?: readonly string[];
  readonly json?: boolean;
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

export const image: Verb = {
  name: 'image',
  summary: 'look into a disk image without trusting it',
  synopsis: ['mount [-o OPTION,...] [--json] IMAGE DIR'],
  description: [
    'mount shows the ext2, ext3 or ext4 file system in the file IMAGE at directory DIR, read-only. A process that ' +
      'has no rights at all reads the image, so that a malicious one can do no more than show wrong files: no kernel ' +
      'driver parses it, devices and set-user-id bits in it do not count. Works without root (package fuse3).',
    'Options of mount: offset=BYTES, where the file system begins; partition=N; native: the kernel serves ' +
      'it all by itself, from a copy of the metadata that Ebb has written (root; takes a moment for each 10,000 ' +
      'files); allow_other: other users may look, too (default for root); ro is always meant.',
  ],
  examples: [
    { command: 'ebb image mount disk.img /mnt/disk', explanation: 'ebb umount takes it away.' },
    {
      command: 'ebb image mount -o partition=1 disk.img /mnt/disk',
      explanation: 'The first partition.',
    },
  ],
  define: (command) => {
    command
      .argument('<ACTION>')
      .argument('<IMAGE>')
      .argument('<DIR>')
      .option('-o, --option <LIST>', 'Options of mount, separated by commas.', collect)
      .option('--json', 'Prints the result as one JSON object.');
  },
  run: async (command, terminal) => {
    const [action = '', imagePath = '', directory = ''] = command.args;
    const options = command.opts<ImageCliOptions>();
    if (action !== 'mount') throw new UsageError(`the action is mount, not "${action}"`);
    return mountImage(imagePath, directory, options.option ?? [], options.json === true, terminal);
  },
};
