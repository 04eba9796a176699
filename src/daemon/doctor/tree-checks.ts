/** What a directory would be as a tree, or is: tried out where that leaves nothing, told where it follows. */
import { probeKernel } from '../../fanotify/probe.ts';
import type { KernelQuestion } from '../../fanotify/probe.ts';
import { FilesystemMagic, filesystemStatus } from '../../sys/statfs.ts';
import { toEbbError } from '../../base/errors.ts';
import type { DoctorCheck } from '../helper-api.ts';
import { listenerCheck } from './listener-checks.ts';

const names: Readonly<Record<KernelQuestion, string>> = {
  privilege: 'privilege',
  preAccess: 'pre-content events',
  filesystem: 'watching its files',
  mapOffset: 'mapped ranges',
};

/** Never throws. */
export async function treeChecks(directory: string): Promise<DoctorCheck[]> {
  try {
    const { magic } = filesystemStatus(directory);
    const { release, findings } = await probeKernel(directory);
    return [
      ...findings.map(({ question, answer, sentence }): DoctorCheck => {
        const found =
          answer === 'unknown' ? `not known (Linux ${release})` : `${answer} (Linux ${release})`;
        if (answer === 'yes') return { name: names[question], outcome: 'ok', found };
        // Mapped files come whole where the kernel asks for the wrong range.
        const outcome = question === 'mapOffset' ? 'warn' : 'fail';
        return { name: names[question], outcome, found, advice: sentence };
      }),
      ...filesystemChecks(magic),
      await listenerCheck(directory),
    ];
  } catch (error) {
    const { message } = toEbbError(error);
    const advice = `${directory} cannot be looked at: ${message}`;
    return [{ name: 'directory', outcome: 'fail', found: directory, advice }];
  }
}

/** docs/native.md, "Stubs": what differs is told, because no check at run time could show it. */
function filesystemChecks(magic: number): DoctorCheck[] {
  switch (magic) {
    case FilesystemMagic.xfs:
      return [
        { name: 'what is not here', outcome: 'ok', found: 'xfs: reflinks of poison, no holes' },
        { name: 'times', outcome: 'ok', found: 'recall moves neither mtime nor ctime' },
      ];
    case FilesystemMagic.btrfs:
      return [
        { name: 'what is not here', outcome: 'ok', found: 'btrfs: reflinks of poison, no holes' },
        ctimeMoves,
      ];
    case FilesystemMagic.ext4:
      return [
        {
          name: 'what is not here',
          outcome: 'warn',
          found: 'ext4: holes',
          advice:
            'Programs that look for holes before they read (SEEK_DATA, FIEMAP) take files that are not here for ' +
            'zeros, and no event tells Ebb that they look. Those that are known to do so (cp, mv, tar, rsync, ' +
            'grep, qemu-img, ...) get whole files when they open them; for others: ebb attach --rule EXE=whole. ' +
            'Whoever gets past Ebb (a snapshot, the disk itself) reads zeros. xfs and btrfs have neither limit.',
        },
        ctimeMoves,
      ];
    default:
      return [];
  }
}

const ctimeMoves: DoctorCheck = {
  name: 'times',
  outcome: 'warn',
  found: 'recall moves ctime (mtime is set back)',
  advice:
    'Programs that compare ctime take a file that was just recalled for changed: GNU tar says "file changed as we ' +
    'read it" and ends with 1, git and some backups read it again. On xfs nothing moves.',
};
