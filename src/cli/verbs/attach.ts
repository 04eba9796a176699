/** `ebb attach`: check, start the supervisor, show how the names come in, report. */
import { isHttpUrl, withoutCredentials } from '../../base/http-url.ts';
import type { AttachProgress, AttachStartResult } from '../../daemon/start-api.ts';
import type { AttachCheck } from '../../daemon/helper-api.ts';
import { AttachProgressLine } from '../attach/progress.ts';
import { endKeptTree } from '../attach/refuse-kept.ts';
import { buildAttachOptions, defineAttachOptions } from '../attach/options.ts';
import type { AttachCliOptions } from '../attach/options.ts';
import { complain } from '../failure.ts';
import { checkRemote } from '../mount/checks.ts';
import { runHelper } from '../helper.ts';
import { keptDescriptors, takeKeptDescriptors } from '../kept-descriptors.ts';
import { followForeground, startService } from '../start-service.ts';
import { realDirectory } from '../target.ts';
import { shellWord, visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

type Attached = Extract<AttachStartResult, { ok: true }>;

export const attach: Verb = {
  name: 'attach',
  summary: 'make a directory hold what a remote has',
  synopsis: ['[OPTION]... TREE [REMOTE]'],
  description: [
    'Fills the directory TREE with the names of REMOTE, as ordinary files of full size whose content arrives when ' +
      'somebody reads it, by the byte range. What is here the kernel serves alone, and files can be written, renamed ' +
      'and deleted like any others: what is changed here stays here and is never written to the remote.',
    'TREE is a directory on xfs, btrfs or ext4 that neither holds the system nor Ebb itself; ebb pool makes one ' +
      'where there is none. Needs root and Linux 6.14. What is in TREE already stays, and is in the tree.',
    'While it is attached, TREE is a mount point. After ebb detach, after a reboot, and when nothing of Ebb runs, ' +
      'TREE shows nothing: its files are kept in TREE/.ebb, and ebb attach TREE brings them back. REMOTE need not be ' +
      'named then; another one is refused.',
    'An interrupted attaching goes on where it was. Directories that the remote does not list are named, all others ' +
      'are there; ebb refresh tries them again, and brings in what has changed at the remote.',
    'REMOTE is an http:// or https:// directory or the path of a local directory, as for ebb mount. SIZE is a number ' +
      'with K, M, G, T (powers of 1024); DURATION a number with ms, s, m, h, d.',
  ],
  exitCodes: {
    0: 'Attached (with -f: and detached again in good order).',
    1: 'Could not be attached, or some directories of the remote could not be listed; standard error says which.',
    3: 'Refused: this machine, this file system or this directory will not do. Nothing was changed.',
  },
  examples: [
    {
      command: 'ebb attach /srv/sets https://data.example.org/sets/',
      explanation: 'A remote as files.',
    },
    { command: 'ebb attach /srv/sets', explanation: 'Again, after a reboot.' },
    {
      command: "ebb attach --min-free 10% --rule 'updatedb*=deny' --rule rsync=exact /srv/sets",
      explanation:
        'Keeps a tenth of the disk free, and does not fetch files for updatedb, nor ahead for rsync.',
    },
  ],
  define: defineAttachOptions,
  run: async (command, terminal) => {
    const [typedTree = '', typedRemote] = command.args;
    const options = command.opts<AttachCliOptions>();
    // Whatever kept what it had attached wants it back.
    const isKept =
      options.foreground === true && keptDescriptors(process.env, process.pid).length > 0;
    const remote = typedRemote === undefined ? undefined : remoteOf(typedRemote, isKept);
    const tree = realDirectory(typedTree, 'tree');
    const full = buildAttachOptions(tree, remote, options);
    const checked = isKept
      ? ({ ok: true } as const)
      : await check(tree, remote, full.stateDirectory);
    if (!checked.ok) return complain(checked, 'ebb attach', options.json === true, terminal);
    if (options.dryRun === true) {
      if (options.json === true) terminal.print(JSON.stringify(checked));
      else terminal.print(`Nothing is wrong so far; nothing was attached to ${visible(tree)}.`);
      return ExitCode.done;
    }
    const isQuiet = options.json === true || options.foreground === true;
    const line = new AttachProgressLine(isQuiet ? undefined : terminal);
    const { child, result } = await startService<Attached>(
      {
        script: 'supervisor/main.ts',
        scriptVariable: 'EBB_SUPERVISOR_MAIN',
        mountPoint: tree,
        foreground: options.foreground === true,
        aim: 'the tree was attached',
        kept: isKept ? takeKeptDescriptors() : [],
        onProgress: (said) => {
          if ('progress' in said) line.show(said.progress as AttachProgress);
        },
      },
      {
        ...full,
        ...(options.foreground === true ? forSuccessors(typedRemote) : {}),
      },
    );
    line.erase();
    if (!result.ok) return complain(result, 'ebb attach', options.json === true, terminal);
    const code = report(result, tree, options.json === true, terminal);
    if (child === undefined) return code;
    await terminal.drained();
    return followForeground(child);
  },
  afterFailure: endKeptTree,
};

/** How the supervisor of a service tells whether it is to go on with what another one has left. */
function forSuccessors(typedRemote: string | undefined): object {
  const isUrl = typedRemote !== undefined && isHttpUrl(typedRemote);
  const namedRemote = isUrl ? withoutCredentials(typedRemote) : typedRemote;
  return { startedBy: process.pid, namedRemote };
}

/** Readers may wait for what is kept: a directory's disk may hang, and its identity is known from before. */
function remoteOf(typed: string, isKept: boolean): string | undefined {
  return isKept && !isHttpUrl(typed) ? undefined : checkRemote(typed);
}

/** Needs system calls that the CLI does not load. The secrets of the remote are not its business. */
async function check(
  tree: string,
  remote: string | undefined,
  stateDirectory: string | undefined,
): Promise<AttachCheck> {
  // Arguments of a process can be read by everybody.
  const named = remote === undefined ? undefined : withoutCredentials(remote);
  return (await runHelper('attach-check', [
    JSON.stringify({ tree, remote: named, stateDirectory }),
  ])) as AttachCheck;
}

function report(result: Attached, tree: string, json: boolean, terminal: Terminal): ExitCode {
  const { directories, stubs, symlinks, remoteBytes, failed, problems, run } = result;
  if (json) {
    terminal.print(JSON.stringify(result));
  } else {
    for (const { path, error } of problems) {
      terminal.warn(`ebb attach: ${visible(path === '' ? '.' : path)}: ${visibleSentence(error)}`);
    }
    const all = result.kept + result.skipped + failed;
    if (all > problems.length) terminal.warn(`ebb attach: ... and ${all - problems.length} more`);
    const brought =
      directories + stubs + symlinks > 0
        ? `${plural(stubs, 'file')} (${formatBytes(remoteBytes)}) in ${plural(directories, 'directory', 'directories')}`
        : 'its names were here already';
    terminal.print(
      `Attached ${visible(run.remote)} to ${visible(tree)}: ${brought}; ` +
        `detach with: ebb detach ${shellWord(tree)}`,
    );
  }
  return failed > 0 ? ExitCode.failed : ExitCode.done;
}
