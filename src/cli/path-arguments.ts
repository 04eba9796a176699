/**
 * What `get`, `release`, `pin`, `unpin`, `verify` and `refresh` work on: paths, patterns and lists of files,
 * sorted by mount and cut into requests of a bounded size.
 */
import { createReadStream } from 'node:fs';
import type { Command } from 'commander';
import { ebbError, toEbbError } from '../base/errors.ts';
import { decodeName } from '../base/name.ts';
import { findRun } from '../base/run-directory.ts';
import type { PathsRequest } from '../daemon/api.ts';
import { ControlClient } from './client.ts';
import { hasMagic } from '../base/glob.ts';
import { absolutePath } from './target.ts';
import type { Mounts } from './target.ts';
import { UsageError } from './verb.ts';

export interface PathOptions {
  readonly filesFrom?: string;
  readonly null?: boolean;
  readonly literal?: boolean;
}

/** One request to one daemon. */
export interface Batch {
  readonly client: ControlClient;
  readonly request: PathsRequest;
}

/** Lists are read up to this size. */
const listMaxBytes = 1024 * 1024 * 1024;
const pathsPerRequestMax = 10_000;
/** Well under the server's limit, whatever JSON makes of the names. */
const lettersPerRequestMax = 1024 * 1024;

/** Declares the arguments and options by which paths are given. */
export function definePathArguments(command: Command): void {
  command
    .argument('[PATH...]')
    .option(
      '-f, --files-from <LIST>',
      'Also works on the paths in the file LIST, one a line; - is standard input. They are taken literally.',
    )
    .option(
      '-0, --null',
      'The paths in LIST end in NUL bytes (as find -print0 and ebb find -0 write them).',
    )
    .option('--literal', 'Takes *, ? and [ in PATH as ordinary characters.');
}

/** Resolves what was given to requests by mount, in order. Throws UsageError when nothing was given. */
export async function collectBatches(
  mounts: Mounts,
  words: readonly string[],
  options: PathOptions,
  dryRun: boolean,
): Promise<Batch[]> {
  const listed =
    options.filesFrom === undefined ? [] : await readList(options.filesFrom, options.null === true);
  if (options.null === true && options.filesFrom === undefined) {
    throw new UsageError('-0 says how LIST is written: give -f LIST too (-f - for standard input)');
  }
  if (words.length === 0 && options.filesFrom === undefined) {
    throw new UsageError('name at least one PATH, or a list with -f');
  }
  const gathered = new Map<string, { client: ControlClient; paths: string[]; globs: string[] }>();
  const entryOf = (client: ControlClient): { paths: string[]; globs: string[] } => {
    const key = client.record.mountPoint;
    const entry = gathered.get(key) ?? { client, paths: [], globs: [] };
    gathered.set(key, entry);
    return entry;
  };
  for (const word of words) {
    const pattern =
      options.literal !== true && hasMagic(word) ? await locatePattern(mounts, word) : undefined;
    if (pattern === undefined) {
      const { client, inside } = mounts.locate(word);
      entryOf(client).paths.push(inside);
    } else {
      entryOf(pattern.client).globs.push(pattern.glob);
    }
  }
  for (const name of listed) {
    const { client, inside } = mounts.locate(name);
    entryOf(client).paths.push(inside);
  }
  return [...gathered.values()].flatMap(({ client, paths, globs }) =>
    cut(paths, globs).map((part) => ({ client, request: { ...part, dryRun } })),
  );
}

/**
 * A pattern relative to its mount; undefined when a file is really called so (the shell had expanded a pattern to
 * names with brackets). A relative pattern outside of all mounts means the only mount there is.
 */
async function locatePattern(
  mounts: Mounts,
  word: string,
): Promise<{ client: ControlClient; glob: string } | undefined> {
  const absolute = absolutePath(word);
  const found = findRun(mounts.live, absolute);
  if (found !== undefined) {
    const client = new ControlClient(found.record);
    const exists = await client
      .ls(found.inside, 'self')
      .next()
      .then(
        () => true,
        () => false,
      );
    return exists ? undefined : { client, glob: found.inside };
  }
  const outside = mounts.tryLocate(fixedPart(absolute));
  if (outside !== undefined) {
    const rest = absolute.slice(fixedPart(absolute).length).replace(/^\//, '');
    return { client: outside.client, glob: [outside.inside, rest].filter(Boolean).join('/') };
  }
  if (word.startsWith('/')) throw ebbError('ENOENT', `${word} is not inside a mount of yours.`);
  return { client: mounts.only('Say where the pattern begins').client, glob: word };
}

/** The leading components of a pattern without magic. */
function fixedPart(pattern: string): string {
  const parts = pattern.split('/');
  const first = parts.findIndex(hasMagic);
  return parts.slice(0, first < 0 ? parts.length : first).join('/') || '/';
}

function cut(paths: readonly string[], globs: readonly string[]): PathsRequest[] {
  const requests: PathsRequest[] = [];
  let part: string[] = [];
  let letters = 0;
  for (const path of paths) {
    if (part.length >= pathsPerRequestMax || letters + path.length > lettersPerRequestMax) {
      requests.push({ paths: part });
      part = [];
      letters = 0;
    }
    part.push(path);
    letters += path.length;
  }
  if (part.length > 0 || globs.length > 0) requests.push({ paths: part, globs });
  return requests;
}

/** Reads a list of names; empty lines are skipped. Throws EbbError when it cannot be read. */
async function readList(file: string, nulTerminated: boolean): Promise<string[]> {
  const source = file === '-' ? process.stdin : createReadStream(file);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > listMaxBytes) throw ebbError('EFBIG', `The list ${file} is too long.`);
      chunks.push(chunk);
    }
  } catch (error) {
    const { code, message } = toEbbError(error);
    throw ebbError(code, `Cannot read the list ${file}: ${message}`, { cause: error });
  }
  return splitNames(Buffer.concat(chunks), nulTerminated);
}

/** Splits a list into names, without loss. */
export function splitNames(list: Uint8Array, nulTerminated: boolean): string[] {
  const text = Buffer.from(list).toString('latin1');
  return text
    .split(nulTerminated ? '\0' : '\n')
    .filter((name) => name !== '')
    .map((name) => decodeName(Buffer.from(name, 'latin1')));
}
