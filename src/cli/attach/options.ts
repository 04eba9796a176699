/** From the options of `ebb attach` to the `AttachOptions` that the supervisor gets. */
import type { Command } from 'commander';
import type { AttachOptions, RequesterRule, RequesterVerdict } from '../../daemon/start-api.ts';
import {
  cacheSizeOption,
  dropUndefined,
  falseIfNo,
  idMax,
  logLevelOf,
  minFreeBytes,
  optional,
  standbyOption,
} from '../option-values.ts';
import { buildRemoteAccess, defineRemoteOptions } from '../remote-options.ts';
import type { RemoteCliOptions } from '../remote-options.ts';
import { absolutePath } from '../target.ts';
import { parseCount, parseMode, parseSize } from '../units.ts';
import { UsageError } from '../verb.ts';

export interface AttachCliOptions extends RemoteCliOptions {
  readonly foreground?: boolean;
  readonly state?: string;
  readonly cacheSize?: string;
  readonly minFree?: string;
  readonly fileMode?: string;
  readonly dirMode?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly wholeMax?: string;
  readonly execWholeMax?: string;
  readonly rule?: readonly string[];
  readonly remoteMoved?: boolean;
  readonly logLevel?: string;
  readonly standby?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** The errnos that the kernel takes from us for an access (docs/native.md), as far as they say "not for you". */
const denials = ['EPERM', 'EIO', 'EBUSY', 'EAGAIN'] as const;

export function defineAttachOptions(command: Command): void {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];
  command
    .argument('<TREE>')
    .argument('[REMOTE]')
    .option(
      '-f, --foreground',
      'Stays in the foreground; the log goes to standard error. Ctrl-C detaches (--keep).',
    )
    .option(
      '--state <DIR>',
      'Where the secret, the lock and the catalog of the tree are kept, on another file system than TREE. ' +
        'Default /var/lib/ebb/trees.',
    )
    .option(...cacheSizeOption)
    .option(
      '--min-free <SIZE|PERCENT>',
      'Releases content when the file system of TREE has less free than this, e.g. 10G or 5%. Default: none.',
    )
    .option(
      '--whole-max <SIZE>',
      'Files up to this size come whole when they are opened; 0 none. Default 1M.',
    )
    .option(
      '--exec-whole-max <SIZE>',
      'Programs and libraries up to this size come whole when they are opened. Default 64M.',
    )
    .option(
      '--rule <EXE=VERDICT>',
      'What a program gets of files that are not here: allow (what it reads, with read-ahead), exact (only what it ' +
        'reads), whole (all of a file when it opens it), deny or deny:ERRNO (an error: EPERM, EIO, EBUSY, EAGAIN). ' +
        'EXE is the name of the executable or, with a slash, its path; * and ? match. The first rule that fits ' +
        'counts. May be repeated.',
      collect,
    )
    .option('--file-mode <MODE>', 'Octal mode of files where the remote gives none. Default 0644.')
    .option(
      '--dir-mode <MODE>',
      'Octal mode of directories where the remote gives none. Default 0755.',
    )
    .option('--uid <UID>', 'Owner where the remote gives none. Default 0.')
    .option('--gid <GID>', 'Group where the remote gives none. Default 0.')
    .option(
      '--remote-moved',
      'REMOTE is a local directory, and rightly another one than before (its content was copied to a new disk): ' +
        'takes what is there now. Without, files that are not here are errors.',
    );
  defineRemoteOptions(command);
  command
    .option(...standbyOption)
    .option('--log-level <LEVEL>', 'debug, info, warn or error. Default info.')
    .option('-n, --dry-run', 'Checks whether it could be done; changes nothing.')
    .option('--json', 'Prints the result as one JSON object: AttachStartResult.');
}

/** Builds what the supervisor gets. Throws UsageError, or EbbError when a file cannot be read. */
export function buildAttachOptions(
  tree: string,
  remote: string | undefined,
  options: AttachCliOptions,
): AttachOptions {
  const size = optional(parseSize);
  const mode = optional(parseMode);
  const count = optional(parseCount);
  return dropUndefined<AttachOptions>({
    ...buildRemoteAccess(options),
    tree,
    remote,
    stateDirectory: options.state === undefined ? undefined : absolutePath(options.state),
    cacheSizeBytes: size(options.cacheSize, '--cache-size'),
    minFreeBytes: minFreeBytes(options.minFree, tree),
    fileMode: mode(options.fileMode, '--file-mode'),
    directoryMode: mode(options.dirMode, '--dir-mode'),
    uid: count(options.uid, '--uid', 0, idMax),
    gid: count(options.gid, '--gid', 0, idMax),
    wholeFileMaxBytes: size(options.wholeMax, '--whole-max'),
    executableWholeMaxBytes: size(options.execWholeMax, '--exec-whole-max'),
    rules: options.rule?.map(parseRule),
    remoteMoved: options.remoteMoved,
    standby: falseIfNo(options.standby),
    logLevel: logLevelOf(options.logLevel),
    foreground: options.foreground,
  });
}

/** `EXE=VERDICT`; the name may hold `=`. Throws UsageError. */
export function parseRule(text: string): RequesterRule {
  const at = text.lastIndexOf('=');
  const executable = text.slice(0, Math.max(0, at));
  const verdict = verdictOf(text.slice(at + 1));
  if (executable === '' || verdict === undefined) {
    throw new UsageError(
      `--rule wants EXE=allow, EXE=exact, EXE=whole, EXE=deny or EXE=deny:ERRNO with one of ${denials.join(', ')}; ` +
        `"${text}" is none`,
    );
  }
  return { executable, verdict };
}

function verdictOf(word: string): RequesterVerdict | undefined {
  if (word === 'allow' || word === 'exact' || word === 'whole') return word;
  if (word === 'deny') return { deny: 'EPERM' };
  const errno = denials.find((known) => word === `deny:${known}`);
  return errno === undefined ? undefined : { deny: errno };
}
