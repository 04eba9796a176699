/** The tests of `ebb find`. Pure: the time is an argument. */
import type { BriefFileInfo, FileInfo, FileState } from '../daemon/api.ts';
import { globMatcher } from '../base/glob.ts';
import { parseDuration, parseSize } from './units.ts';
import { UsageError } from './verb.ts';

export interface FilterOptions {
  readonly state?: string;
  readonly size?: string;
  readonly name?: string;
  readonly iname?: string;
  readonly type?: string;
  readonly mtime?: string;
  readonly pinned?: boolean;
}

type Test<Info = FileInfo> = (info: Info) => boolean;

const states: ReadonlySet<string> = new Set<FileState>([
  'REG',
  'DUL',
  'DIR',
  'PAR',
  'OFL',
  'UNM',
  'MIG',
  'ERR',
]);
const kinds: Readonly<Record<string, FileInfo['kind']>> = {
  f: 'file',
  d: 'directory',
  l: 'symlink',
};

/** Makes one test of all options. Throws UsageError for values that mean nothing. */
export function fileFilter(options: FilterOptions, nowMs: number): Test {
  const tests: Test[] = [briefFilter(options)];
  if (options.size !== undefined) tests.push(sizeTest(options.size));
  if (options.mtime !== undefined) tests.push(ageTest(options.mtime, nowMs));
  if (options.pinned === true) tests.push((info) => info.pinned);
  return (info) => tests.every((test) => test(info));
}

/** The tests that a name, a kind and a state are enough for are all that is asked for. */
export function isBrief({ size, mtime, pinned }: FilterOptions): boolean {
  return size === undefined && mtime === undefined && pinned !== true;
}

/** One test of those options. Throws as `fileFilter`. */
export function briefFilter(options: FilterOptions): Test<BriefFileInfo> {
  const tests: Test<BriefFileInfo>[] = [];
  if (options.state !== undefined) tests.push(stateTest(options.state));
  if (options.name !== undefined) tests.push(nameTest(globMatcher(options.name)));
  if (options.iname !== undefined) tests.push(nameTest(globMatcher(options.iname, true)));
  if (options.type !== undefined) tests.push(kindTest(options.type));
  return (info) => tests.every((test) => test(info));
}

function stateTest(text: string): Test<BriefFileInfo> {
  const wanted = text.toUpperCase().split(',');
  const unknown = wanted.find((state) => !states.has(state));
  if (unknown !== undefined) {
    throw new UsageError(`--state knows ${[...states].join(', ')}, not "${unknown}"`);
  }
  return (info) => wanted.includes(info.state);
}

function sizeTest(text: string): Test {
  const [sign, rest] = signOf(text);
  const bytes = parseSize(rest, '--size');
  return ({ kind, sizeBytes }) => {
    if (kind !== 'file' || sizeBytes < 0) return false;
    if (sign === '+') return sizeBytes > bytes;
    return sign === '-' ? sizeBytes < bytes : sizeBytes === bytes;
  };
}

function nameTest(matches: (name: string) => boolean): Test<BriefFileInfo> {
  return (info) => matches(info.path.slice(info.path.lastIndexOf('/') + 1));
}

function kindTest(text: string): Test<BriefFileInfo> {
  const wanted: (FileInfo['kind'] | undefined)[] = text.split(',').map((letter) => kinds[letter]);
  if (wanted.includes(undefined)) {
    throw new UsageError(`--type knows f, d and l, not "${text}"`);
  }
  return (info) => wanted.includes(info.kind);
}

function ageTest(text: string, nowMs: number): Test {
  const [sign, rest] = signOf(text);
  const limitMs = nowMs - parseDuration(rest, '--mtime');
  return (info) => (sign === '-' ? info.mtimeMs > limitMs : info.mtimeMs <= limitMs);
}

function signOf(text: string): readonly [sign: string, rest: string] {
  const sign = text.startsWith('+') || text.startsWith('-') ? text.slice(0, 1) : '';
  return [sign, text.slice(sign.length)];
}
