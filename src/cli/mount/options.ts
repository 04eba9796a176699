/**
 * From the options of `ebb mount` to the `MountOptions` that the daemon gets. Secrets are read from files here,
 * so that they never stand in an argument list, where every user of the machine could read them.
 */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { MountOptions } from '../../daemon/api.ts';
import { absolutePath } from '../target.ts';
import { parseCount, parseDuration, parseMode, parseSize } from '../units.ts';
import { UsageError } from '../verb.ts';

export interface MountCliOptions {
  readonly foreground?: boolean;
  readonly cacheDir?: string;
  readonly cacheSize?: string;
  readonly minFree?: string;
  readonly ttl?: string;
  readonly fileMode?: string;
  readonly dirMode?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly bearerFile?: string;
  readonly header?: readonly string[];
  readonly proxy?: string;
  readonly caFile?: string;
  readonly clientCert?: string;
  readonly clientKey?: string;
  readonly insecure?: boolean;
  readonly connectTimeout?: string;
  readonly deadline?: string;
  readonly retries?: string;
  readonly connections?: string;
  readonly readAhead?: string;
  readonly limitRate?: string;
  readonly passthrough?: boolean;
  readonly allowOther?: boolean;
  readonly noexec?: boolean;
  readonly unprivileged?: boolean;
  readonly logLevel?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

const idMax = 0xffff_fffe;
const retriesMax = 100;
const connectionsMax = 256;
const secretMaxBytes = 64 * 1024;
/** Control characters but the tab (RFC 9110, section 5.5). */
// oxlint-disable-next-line no-control-regex
const forbiddenInHeader = /[\u0000-\u0008\u000a-\u001f\u007f]/;
const logLevels = ['debug', 'info', 'warn', 'error'] as const;

/** Declares the options. Options without a default here have the daemon's, named in their text. */
export function defineMountOptions(command: Command): void {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];
  command
    .argument('<REMOTE>')
    .argument('<MOUNTPOINT>')
    .option(
      '-f, --foreground',
      'Stays in the foreground; the log goes to standard error. Ctrl-C unmounts.',
    )
    .option(
      '--cache-dir <DIR>',
      'Where content is kept. Default /var/cache/ebb/NAME for root, else ~/.cache/ebb/NAME.',
    )
    .option(
      '--cache-size <SIZE>',
      'Releases the least recently used content above this size. Default: no limit.',
    )
    .option(
      '--min-free <SIZE|PERCENT>',
      'Releases content when the file system of the cache has less free than this, e.g. 10G or 5%. Default: none.',
    )
    .option(
      '--ttl <DURATION>',
      'How long listings and versions are trusted; 0 asks at every open. Default 60s.',
    )
    .option('--file-mode <MODE>', 'Octal mode of files where the remote gives none. Default 0444.')
    .option(
      '--dir-mode <MODE>',
      'Octal mode of directories where the remote gives none. Default 0555.',
    )
    .option('--uid <UID>', 'Owner shown where the remote gives none. Default: yours.')
    .option('--gid <GID>', 'Group shown where the remote gives none. Default: yours.')
    .option('--user <NAME>', 'User name for HTTP basic authentication.')
    .option(
      '--password-file <FILE>',
      'The first line of FILE is the password; - reads standard input.',
    )
    .option(
      '--bearer-file <FILE>',
      'The first line of FILE is a bearer token; - reads standard input.',
    )
    .option(
      '--header <NAME: VALUE>',
      'Sends this header with each request; may be repeated.',
      collect,
    )
    .option(
      '--proxy <URL>',
      "HTTP proxy; '' for none. Default: the usual environment variables. Through a proxy ranges are slower: they " +
        'do not take the fast lane.',
    )
    .option('--ca-file <FILE>', "PEM authorities to trust in addition to the system's.")
    .option('--client-cert <FILE>', 'PEM certificate to show to the server; needs --client-key.')
    .option('--client-key <FILE>', 'PEM key of the client certificate.')
    .option(
      '--insecure',
      "Does not check the server's certificate. Anybody on the way can change the bytes.",
    )
    .option('--connect-timeout <DURATION>', 'Limit for making a connection. Default 10s.')
    .option(
      '--deadline <DURATION>',
      'A reader whose bytes are not here by then gets EIO. Default 60s.',
    )
    .option('--retries <N>', 'Attempts after a failed one, 0 to 100. Default 4.')
    .option(
      '--connections <N>',
      'Connections to the remote at the same time, 1 to 256. Default 16.',
    )
    .option(
      '--read-ahead <SIZE>',
      'Largest read-ahead of one sequential reader; 0 none. Default 64M.',
    )
    .option(
      '--limit-rate <SIZE>',
      'Bytes per second from the remote, for all readers. Default: no limit.',
    )
    .option(
      '--no-passthrough',
      'Serves resident files through the daemon, too (slower; for comparison).',
    )
    .option(
      '--allow-other',
      'Lets other users in; file modes are checked by the kernel. Default for root.',
    )
    .option('--no-allow-other', 'Keeps other users out. Default for all but root.')
    .option('--noexec', 'Programs on the mount cannot be executed. (nosuid and nodev always hold.)')
    .option('--unprivileged', 'Mounts through fusermount3 even as root.')
    .option('--log-level <LEVEL>', 'debug, info, warn or error. Default info.')
    .option(
      '-n, --dry-run',
      "Checks the options, the remote's form and the mount point; mounts nothing.",
    )
    .option('--json', 'Prints the result as one JSON object: StartResult.')
    .option(
      '-o <OPT>',
      'The same options as fstab writes them: -o ttl=5m,allow_other. ' +
        'Options of mount(8) that mean nothing here are ignored.',
    );
}

/** Builds what the daemon gets. Throws UsageError, or EbbError when a file cannot be read. */
export function buildMountOptions(
  remote: string,
  mountPoint: string,
  options: MountCliOptions,
): MountOptions {
  const size = (text: string | undefined, what: string): number | undefined =>
    text === undefined ? undefined : parseSize(text, what);
  const time = (text: string | undefined, what: string): number | undefined =>
    text === undefined ? undefined : parseDuration(text, what);
  const mode = (text: string | undefined, what: string): number | undefined =>
    text === undefined ? undefined : parseMode(text, what);
  const count = (text: string | undefined, what: string, min: number, max: number) =>
    text === undefined ? undefined : parseCount(text, what, min, max);
  const cacheDirectory =
    options.cacheDir === undefined ? undefined : absolutePath(options.cacheDir);
  checkCombinations(options);
  return dropUndefined({
    remote,
    mountPoint,
    cacheDirectory,
    cacheSizeBytes: size(options.cacheSize, '--cache-size'),
    minFreeBytes: minFreeBytes(options.minFree, cacheDirectory),
    ttlMs: time(options.ttl, '--ttl'),
    fileMode: mode(options.fileMode, '--file-mode'),
    directoryMode: mode(options.dirMode, '--dir-mode'),
    uid: count(options.uid, '--uid', 0, idMax),
    gid: count(options.gid, '--gid', 0, idMax),
    user: options.user,
    password: readSecret(options.passwordFile, '--password-file'),
    bearerToken: readSecret(options.bearerFile, '--bearer-file'),
    headers: parseHeaders(options.header),
    proxy: checkProxy(options.proxy),
    caFile: readableFile(options.caFile, '--ca-file'),
    clientCertificateFile: readableFile(options.clientCert, '--client-cert'),
    clientKeyFile: readableFile(options.clientKey, '--client-key'),
    insecure: options.insecure,
    connectTimeoutMs: atLeast(
      time(options.connectTimeout, '--connect-timeout'),
      '--connect-timeout',
    ),
    deadlineMs: atLeast(time(options.deadline, '--deadline'), '--deadline'),
    retries: count(options.retries, '--retries', 0, retriesMax),
    connections: count(options.connections, '--connections', 1, connectionsMax),
    readAheadMaxBytes: size(options.readAhead, '--read-ahead'),
    limitBytesPerSecond: atLeast(size(options.limitRate, '--limit-rate'), '--limit-rate'),
    passthrough: options.passthrough === false ? false : undefined,
    allowOther: options.allowOther,
    noExec: options.noexec,
    unprivileged: options.unprivileged,
    logLevel: logLevelOf(options.logLevel),
    foreground: options.foreground,
  });
}

function checkCombinations(options: MountCliOptions): void {
  if (options.passwordFile !== undefined && options.user === undefined) {
    throw new UsageError('--password-file needs --user NAME');
  }
  if (options.bearerFile !== undefined && options.user !== undefined) {
    throw new UsageError('use either --user or --bearer-file');
  }
  if ((options.clientCert === undefined) !== (options.clientKey === undefined)) {
    throw new UsageError('--client-cert and --client-key go together');
  }
  if (options.passwordFile === '-' && options.bearerFile === '-') {
    throw new UsageError('only one secret can come from standard input');
  }
}

function dropUndefined(options: MountOptions): MountOptions {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as unknown as MountOptions;
}

/** A time-out of 0 would mean "never", and a wait without end helps nobody. */
function atLeast(value: number | undefined, what: string): number | undefined {
  if (value === 0) throw new UsageError(`${what} must be more than 0`);
  return value;
}

function logLevelOf(text: string | undefined): (typeof logLevels)[number] | undefined {
  if (text === undefined) return undefined;
  const level = logLevels.find((known) => known === text);
  if (level === undefined)
    throw new UsageError(`--log-level knows ${logLevels.join(', ')}, not "${text}"`);
  return level;
}

/** Percents are of the size of the file system that holds, or will hold, the cache. */
function minFreeBytes(
  text: string | undefined,
  cacheDirectory: string | undefined,
): number | undefined {
  const percent = /^([0-9]+(?:\.[0-9]+)?)\s*%$/.exec(text ?? '')?.[1];
  if (text === undefined || percent === undefined) {
    return text === undefined ? undefined : parseSize(text, '--min-free');
  }
  if (Number(percent) >= 100) throw new UsageError('--min-free must be less than 100%');
  const found = statfsSync(existingAncestor(cacheDirectory ?? defaultCacheParent()));
  return Math.floor((found.blocks * found.bsize * Number(percent)) / 100);
}

/** Where the daemon makes its caches unless told otherwise (see `MountOptions.cacheDirectory`). */
export function defaultCacheParent(): string {
  if (process.getuid?.() === 0) return '/var/cache/ebb';
  const xdg = process.env['XDG_CACHE_HOME'];
  if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, 'ebb');
  return path.join(process.env['HOME'] ?? '/', '.cache/ebb');
}

function existingAncestor(directory: string): string {
  let current = directory;
  while (current !== '/' && statSync(current, { throwIfNoEntry: false }) === undefined) {
    current = path.dirname(current);
  }
  return current;
}

function parseHeaders(lines: readonly string[] | undefined): Record<string, string> | undefined {
  if (lines === undefined) return undefined;
  const headers: Record<string, string> = {};
  for (const line of lines) {
    // RFC 9110, sections 5.1 and 5.5: a token, a colon, text without control characters.
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
    const [, name, value] = match ?? [];
    if (name === undefined || value === undefined || forbiddenInHeader.test(value)) {
      throw new UsageError(
        `--header wants 'NAME: VALUE', which "${line.split(':')[0] ?? ''}..." is not`,
      );
    }
    headers[name] = value;
  }
  return headers;
}

function checkProxy(url: string | undefined): string | undefined {
  if (url === undefined || url === '') return url;
  if (!URL.canParse(url) || !/^https?:/.test(url)) {
    throw new UsageError(
      "--proxy wants a URL such as http://proxy.example.org:3128, or '' for none",
    );
  }
  return url;
}

function readableFile(file: string | undefined, what: string): string | undefined {
  if (file === undefined) return undefined;
  const absolute = absolutePath(file);
  readFirst(absolute, what);
  return absolute;
}

function readSecret(file: string | undefined, what: string): string | undefined {
  if (file === undefined) return undefined;
  const text = file === '-' ? readFirst(0, what) : readFirst(absolutePath(file), what);
  const [line = ''] = text.split(/\r?\n/, 1);
  if (line === '') throw new UsageError(`the first line of ${file} (${what}) is empty`);
  return line;
}

function readFirst(file: string | 0, what: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = toEbbError(error);
    throw ebbError(code, `Cannot read the file of ${what}: ${message}`, { cause: error });
  }
  if (what.endsWith('-file') && text.length > secretMaxBytes && what !== '--ca-file') {
    throw new UsageError(`the file of ${what} is too long to be a secret`);
  }
  return text;
}
