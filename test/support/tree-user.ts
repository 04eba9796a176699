/**
 * A user of a tree, in a process of its own: reads, writes, creates, renames, links and removes files of one directory
 * at random, which nobody else changes, and knows after each call what must be there.
 *
 *   node tree-user.ts TREE SOURCE DIRECTORY SEED      until SIGTERM; prints `UserReport` as JSON
 *
 * A call may fail with EIO (a daemon died while it had the call in hand) and has done nothing then; only an open that
 * creates may have made the empty file.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

export interface UserReport {
  readonly calls: number;
  readonly denied: number;
  /** How many of each kind were done. */
  readonly done: Readonly<Record<string, number>>;
  /** What was not as it must be, the first time. */
  readonly wrong?: string;
}

const filesMax = 40;
const writeBytesMax = 100_000;
const sizeBytesMax = 1_500_000;
const finalTriesMax = 1_000;
/** So many prove something. */
const workedCalls = 50;

const [tree = '', source = '', directory = '', seed = '1'] = process.argv.slice(2);
const place = path.join(tree, directory);
interface ModelFile {
  bytes: Buffer;
  /** What was done to it, for the message when something is wrong. */
  readonly history: string[];
}

/** What must be there: hard links have one object. */
const model = new Map<string, ModelFile>();
for (const name of readdirSync(path.join(source, directory))) {
  model.set(name, { bytes: readFileSync(path.join(source, directory, name)), history: [] });
}

let state = (Number(seed) * 2_654_435_761) % 4_294_967_296 || 1;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  state >>>= 0;
  return state % below;
}

class Wrong extends Error {}

const done: Record<string, number> = {};
let calls = 0;
let denied = 0;

/** The result of `act`; undefined when it was denied. Whatever else it throws is wrong. */
function call<T>(what: string, act: () => T): T | undefined {
  calls += 1;
  try {
    const result = act();
    done[what] = (done[what] ?? 0) + 1;
    return result;
  } catch (error) {
    if (error instanceof Wrong) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    if (code !== 'EIO') throw new Wrong(`${what}: ${code}`);
    denied += 1;
    return undefined;
  }
}

/** For calls that have nothing to do with content: these never fail. */
function always(what: string, act: () => void): void {
  const before = denied;
  call(what, act);
  if (denied > before) throw new Wrong(`${what}: EIO`);
}

const at = (name: string): string => path.join(place, name);
let fresh = 0;
const newName = (): string => `new ${(fresh += 1)}`;

function withFile(what: string, name: string, flags: number, act: (fd: number) => void): void {
  const fd = call(`open for ${what}`, () => openSync(at(name), flags, 0o644));
  if (fd === undefined) return;
  try {
    act(fd);
  } finally {
    closeSync(fd);
  }
}

function compare(fd: number, name: string, bytes: Buffer, from: number, length: number): boolean {
  const got = Buffer.alloc(length);
  const count = call('read', () => readSync(fd, got, 0, length, from));
  if (count === undefined) return false;
  const want = bytes.subarray(from, from + count);
  // A read may end early, but not at nothing while there is more.
  const isShort = count === 0 && from < bytes.length && length > 0;
  if (isShort || want.length !== count || got.compare(want, 0, count, 0, count) !== 0) {
    const done = model.get(name)?.history.join('; ') ?? '';
    throw new Wrong(`read ${name} at ${from}: ${count} bytes, not those of the model; ${done}`);
  }
  return true;
}

/** True when all of it was read and is right. */
function compareAll(name: string, bytes: Buffer): boolean {
  let isRight = false;
  withFile('reading', name, constants.O_RDONLY, (fd) => {
    isRight = compare(fd, name, bytes, 0, bytes.length + 1);
  });
  return isRight;
}

function write(name: string, file: ModelFile, fd: number, from: number): void {
  const data = Buffer.alloc(1 + random(writeBytesMax), random(256));
  const count = call('write', () => writeSync(fd, data, 0, data.length, from));
  file.history.push(`wrote ${count} of ${data.length} at ${from}`);
  if (count === undefined) return;
  if (count !== data.length) throw new Wrong(`${name}: ${file.history.join('; ')}`);
  const grown = Buffer.alloc(Math.max(file.bytes.length, from + data.length));
  file.bytes.copy(grown);
  data.copy(grown, from);
  file.bytes = grown;
  if (random(4) === 0) call('fsync', () => fsyncSync(fd));
  compare(fd, name, file.bytes, 0, Math.min(file.bytes.length, 1_000));
}

const steps: readonly ((name: string, file: ModelFile) => void)[] = [
  (name, { bytes }) => void compareAll(name, bytes),
  (name, { bytes }) =>
    withFile('reading', name, constants.O_RDONLY, (fd) => {
      compare(fd, name, bytes, random(bytes.length + 1), 1 + random(200_000));
    }),
  (name, file) =>
    withFile('writing', name, constants.O_RDWR, (fd) => {
      write(name, file, fd, random(Math.min(file.bytes.length, sizeBytesMax) + 1));
    }),
  (name, file) =>
    withFile('emptying', name, constants.O_RDWR | constants.O_TRUNC, (fd) => {
      file.bytes = Buffer.alloc(0);
      file.history.push('emptied');
      write(name, file, fd, 0);
    }),
  (name, file) =>
    withFile('cutting', name, constants.O_RDWR, (fd) => {
      const length = random(file.bytes.length + 1);
      const isCut = call('truncate', () => ftruncateSync(fd, length) ?? true) ?? false;
      file.history.push(`${isCut ? 'cut' : 'not cut'} to ${length}`);
      if (!isCut) return;
      file.bytes = Buffer.from(file.bytes.subarray(0, length));
    }),
  () => {
    const name = newName();
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR;
    const file = { bytes: Buffer.alloc(0), history: [] };
    const before = denied;
    withFile('creating', name, flags, (fd) => {
      model.set(name, file);
      write(name, file, fd, 0);
    });
    // Denied: the kernel had made it before it asked.
    if (denied > before && statSync(at(name), { throwIfNoEntry: false }) !== undefined) {
      model.set(name, file);
    }
  },
  (name, file) => {
    const others = [...model.keys()];
    const to = random(2) === 0 ? newName() : (others[random(others.length)] ?? newName());
    always('rename', () => renameSync(at(name), at(to)));
    // Two names of one file: rename(2) does nothing.
    if (model.get(to) === file) return;
    model.delete(name);
    model.set(to, file);
  },
  (name, file) => {
    const to = newName();
    always('link', () => linkSync(at(name), at(to)));
    model.set(to, file);
  },
  (name) => {
    always('unlink', () => unlinkSync(at(name)));
    model.delete(name);
  },
  (name) => {
    // In and out of a new directory.
    const inner = newName();
    always('mkdir', () => mkdirSync(at(inner)));
    always('rename', () => renameSync(at(name), path.join(at(inner), name)));
    always('rename', () => renameSync(path.join(at(inner), name), at(name)));
    always('rmdir', () => rmdirSync(at(inner)));
  },
];

async function use(stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    const names = [...model.keys()];
    const name = names[random(names.length)];
    // Neither all gone nor ever more.
    const creates = names.length < 4 ? 5 : names.length > filesMax ? 8 : random(steps.length);
    const file = name === undefined ? undefined : model.get(name);
    if (name === undefined || file === undefined)
      steps[5]?.('', { bytes: Buffer.alloc(0), history: [] });
    else steps[creates]?.(name, file);
    await setImmediate();
  }
}

/** Names and bytes are those of the model, each there once. Denials are tried again. */
function checkAll(): void {
  const found = readdirSync(place).sort();
  const wanted = [...model.keys()].sort();
  if (found.join('\n') !== wanted.join('\n')) {
    throw new Wrong(`names: ${found.join(', ')}; wanted: ${wanted.join(', ')}`);
  }
  for (const [name, { bytes, history }] of model) {
    let tries = 0;
    while (!compareAll(name, bytes)) {
      if ((tries += 1) > finalTriesMax) throw new Wrong(`${name} cannot be read`);
    }
    const { size } = statSync(at(name));
    if (size === bytes.length) continue;
    throw new Wrong(`${name}: ${size} bytes, not ${bytes.length}; ${history.join('; ')}`);
  }
}

let stopping = false;
let hasWorked = false;
process.on('SIGTERM', () => (stopping = true));

function isOver(): boolean {
  if (!hasWorked && calls >= workedCalls) {
    hasWorked = true;
    process.send?.('worked');
  }
  return stopping;
}

process.send?.('begun');
let wrong: string | undefined;
try {
  await use(isOver);
  checkAll();
} catch (error) {
  wrong = error instanceof Error ? error.message : String(error);
}
const report: UserReport = { calls, denied, done, ...(wrong === undefined ? {} : { wrong }) };
process.stdout.write(JSON.stringify(report));
process.exitCode = wrong === undefined ? 0 : 9;
