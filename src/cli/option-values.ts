/** Values of options that several verbs have. */
import { statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { parseSize } from './units.ts';
import { UsageError } from './verb.ts';

/** The largest user or group id: the next one means "none". */
export const idMax = 0xffff_fffe;
export const cacheSizeOption = [
  '--cache-size <SIZE>',
  'Releases the least recently used content above this size. Default: no limit.',
] as const;
export const standbyOption = [
  '--no-standby',
  'No second daemon waits to take the place of one that dies: saves 50 MiB, and then who reads waits longer.',
] as const;
const logLevels = ['debug', 'info', 'warn', 'error'] as const;

/** The same parser for an option that need not be given. */
export function optional<Rest extends unknown[], Value>(
  parse: (text: string, what: string, ...rest: Rest) => Value,
): (text: string | undefined, what: string, ...rest: Rest) => Value | undefined {
  return (text, what, ...rest) => (text === undefined ? undefined : parse(text, what, ...rest));
}

export function dropUndefined<Options extends object>(options: {
  readonly [Key in keyof Options]: Options[Key] | undefined;
}): Options {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Options;
}

/** Of a `--no-...`, which is true when it was not given: the daemon's default counts then. */
export function falseIfNo(flag: boolean | undefined): false | undefined {
  return flag === false ? false : undefined;
}

export function logLevelOf(text: string | undefined): (typeof logLevels)[number] | undefined {
  if (text === undefined) return undefined;
  const level = logLevels.find((known) => known === text);
  if (level === undefined)
    throw new UsageError(`--log-level knows ${logLevels.join(', ')}, not "${text}"`);
  return level;
}

/** Percents are of the size of the file system that holds, or will hold, `directory`. */
export function minFreeBytes(text: string | undefined, directory: string): number | undefined {
  const percent = /^([0-9]+(?:\.[0-9]+)?)\s*%$/.exec(text ?? '')?.[1];
  if (text === undefined || percent === undefined) {
    return text === undefined ? undefined : parseSize(text, '--min-free');
  }
  if (Number(percent) >= 100) throw new UsageError('--min-free must be less than 100%');
  const found = statfsSync(existingAncestor(directory));
  return Math.floor((found.blocks * found.bsize * Number(percent)) / 100);
}

function existingAncestor(directory: string): string {
  let current = directory;
  while (current !== '/' && statSync(current, { throwIfNoEntry: false }) === undefined) {
    current = path.dirname(current);
  }
  return current;
}
