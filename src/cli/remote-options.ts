/**
 * How a remote is reached: the options that `ebb mount` and `ebb attach` share. Secrets are read from files here, so
 * that they never stand in an argument list, where every user of the machine could read them.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { ebbError, toEbbError } from '../base/errors.ts';
import type { RemoteAccess } from '../daemon/start-api.ts';
import { dropUndefined, optional } from './option-values.ts';
import { absolutePath } from './target.ts';
import { parseCount, parseDuration, parseSize } from './units.ts';
import { UsageError } from './verb.ts';

export interface RemoteCliOptions {
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
}

const retriesMax = 100;
const connectionsMax = 256;
const secretMaxBytes = 64 * 1024;
/** Control characters but the tab (RFC 9110, section 5.5). */
// oxlint-disable-next-line no-control-regex
const forbiddenInHeader = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** Declares the options. Options without a default here have the daemon's, named in their text. */
export function defineRemoteOptions(command: Command): void {
  const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];
  command
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
    );
}

/** What the daemon gets of them. Throws UsageError, or EbbError when a file cannot be read. */
export function buildRemoteAccess(options: RemoteCliOptions): RemoteAccess {
  checkCombinations(options);
  const size = optional(parseSize);
  const time = optional(parseDuration);
  const count = optional(parseCount);
  return dropUndefined<RemoteAccess>({
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
  });
}

function checkCombinations(options: RemoteCliOptions): void {
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

/** A time-out of 0 would mean "never", and a wait without end helps nobody. */
function atLeast(value: number | undefined, what: string): number | undefined {
  if (value === 0) throw new UsageError(`${what} must be more than 0`);
  return value;
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
