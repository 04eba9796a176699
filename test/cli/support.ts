/** Runs the CLI as a process, against a real control server whose handlers are scripted here. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  ensureRunDirectory,
  processStartTicks,
  runFiles,
  writeRunRecord,
} from '../../src/base/run-directory.ts';
import { ebbError } from '../../src/base/errors.ts';
import type { ControlHandlers } from '../../src/daemon/control/handlers.ts';
import { startControlServer } from '../../src/daemon/control/server.ts';
import type { FileInfo, PathsRequest } from '../../src/daemon/api.ts';
import type { RunRecord } from '../../src/base/run-directory.ts';
import { patience } from '../support/patience.ts';

const cliTimeoutMs = patience * 30_000;
export const cliMain = path.join(import.meta.dirname, '../../src/cli/main.ts');

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `ebb` with arguments; `input` is its standard input. */
export function ebb(
  words: readonly (string | Buffer)[],
  options: {
    runDirectory?: string;
    cwd?: string;
    input?: string;
    env?: Record<string, string>;
  } = {},
): Promise<CliResult> {
  const env = { ...process.env, ...options.env };
  if (options.runDirectory !== undefined) env['EBB_RUN_DIR'] = options.runDirectory;
  // Node cannot pass bytes that are not UTF-8: a shell can, from octal escapes.
  const raw = words.some((word) => typeof word !== 'string');
  const octal = (word: string | Buffer): string =>
    `"$(printf '${[...Buffer.from(word)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}')"`;
  const [program, argv]: [string, string[]] = raw
    ? ['sh', ['-c', `exec ${[process.execPath, cliMain, ...words].map(octal).join(' ')}`]]
    : [process.execPath, [cliMain, ...(words as readonly string[])]];
  const child = spawn(program, argv, { cwd: options.cwd, env, stdio: 'pipe' });
  const timer = setTimeout(() => child.kill('SIGKILL'), cliTimeoutMs);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** An empty directory that is removed when disposed. */
export function scratch(): Disposable & { readonly path: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'ebb-cli-test-'));
  return {
    path: directory,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

export const gib = 1024 ** 3;

export function fileInfo(file: string, overrides: Partial<FileInfo> = {}): FileInfo {
  return {
    path: file,
    kind: 'file',
    state: 'OFL',
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    residentBytes: 0,
    mtimeMs: Date.UTC(2026, 0, 2, 12),
    pinned: false,
    ...overrides,
  };
}

const directoryInfo = (file: string): FileInfo =>
  fileInfo(file, { kind: 'directory', state: '-', mode: 0o755 });

/** The name space of the scripted daemon, depth first. */
export const tree: readonly FileInfo[] = [
  directoryInfo('docs'),
  fileInfo('docs/a.txt', { state: 'DUL', sizeBytes: 1000, residentBytes: 1000 }),
  directoryInfo('docs/deep'),
  fileInfo('docs/deep/b.iso', { state: 'PAR', sizeBytes: 2 * gib, residentBytes: 4096 }),
  fileInfo('evil\u001b[31m\nname', { sizeBytes: 1 }),
  fileInfo('latin-\udce9', { sizeBytes: 2, pinned: true, state: 'DUL', residentBytes: 2 }),
  fileInfo('link', { kind: 'symlink', state: '-', target: 'docs/a.txt' }),
];

export interface ScriptedDaemon extends AsyncDisposable {
  readonly mountPoint: string;
  readonly runDirectory: string;
  readonly record: RunRecord;
  /** What acting verbs were asked. */
  readonly asked: { readonly verb: string; readonly request: PathsRequest }[];
}

/** Starts a daemon of nothing but scripted handlers; `overrides` replace single ones, `facts` those of its record. */
export async function scriptedDaemon(
  overrides: Partial<ControlHandlers> = {},
  facts: Partial<RunRecord> = {},
): Promise<ScriptedDaemon> {
  const temporary = scratch();
  const runDirectory = ensureRunDirectory(path.join(temporary.path, 'run'));
  const mountPoint = path.join(temporary.path, 'mnt');
  const asked: ScriptedDaemon['asked'] = [];
  const record: RunRecord = {
    pid: process.pid,
    startTicks: processStartTicks(process.pid) ?? 0,
    mountPoint,
    remote: 'http://example.org/pub/',
    cacheDirectory: '/var/cache/ebb/test',
    socketPath: runFiles(mountPoint, runDirectory).socket,
    ...facts,
  };
  const handlers = { ...scriptedHandlers(record, asked), ...overrides };
  const server = await startControlServer(record.socketPath, handlers);
  writeRunRecord(record, runDirectory);
  return {
    mountPoint,
    runDirectory,
    record,
    asked,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      temporary[Symbol.dispose]();
    },
  };
}

function scriptedHandlers(record: RunRecord, asked: ScriptedDaemon['asked']): ControlHandlers {
  const act = (verb: string) =>
    async function* (request: PathsRequest): ReturnType<ControlHandlers['get']> {
      asked.push({ verb, request });
      const common = { doneBytes: 10, sizeBytes: 10, totalBytes: 20, filesTotal: 2 };
      yield { ...common, path: 'docs/a.txt', totalDoneBytes: 10, filesDone: 1, outcome: 'ok' };
      yield {
        ...common,
        path: 'docs/deep/b.iso',
        totalDoneBytes: 20,
        filesDone: 2,
        outcome: { code: 'EBUSY', error: 'it is open in pid 7 (less)' },
      };
      return { ok: 1, failed: 0, refused: 1, bytes: 10 };
    };
  return {
    restart: async () => undefined,
    status: async () => ({
      kind: 'mount',
      mountPoint: record.mountPoint,
      remote: record.remote,
      cacheDirectory: record.cacheDirectory,
      pid: record.pid,
      supervisorPid: record.pid,
      restarts: 2,
      version: '0.1.0',
      startedAtMs: Date.now() - 5000,
      passthrough: true,
      privileged: true,
      files: 12_345,
      directories: 3,
      remoteBytes: 5 * gib,
      residentBytes: gib,
      cacheLimitBytes: null,
      minFreeBytes: gib,
      handlesRefused: 0,
      tokenTag: '0123456789abcdef',
      tokensRefused: 0,
      openFiles: 2,
      recallsInFlight: 0,
      recalledBytes: 7,
      remoteReachable: true,
      lastError: null,
    }),
    ls: async function* ({ path: directory, recursive, self, deep }) {
      if (deep) yield fileInfo('deep');
      if (self) {
        const found = tree.find((one) => one.path === directory);
        if (found === undefined && directory !== '') throw ebbError('ENOENT', `no ${directory}`);
        yield found ?? directoryInfo(directory);
        return;
      }
      const prefix = directory === '' ? '' : `${directory}/`;
      for (const info of tree) {
        if (!info.path.startsWith(prefix)) continue;
        if (recursive || !info.path.slice(prefix.length).includes('/')) yield info;
      }
    },
    du: async ({ path: directory }) => ({
      path: directory,
      files: 2,
      directories: 1,
      remoteBytes: 2 * gib + 1000,
      residentBytes: 5096,
      incomplete: true,
    }),
    explain: async (file) => {
      const info = tree.find((one) => one.path === file);
      if (info === undefined) throw Object.assign(new Error(`no ${file}`), { code: 'ENOENT' });
      return {
        path: file,
        state: info.state,
        summary: 'It was read last week.',
        facts: [['version', '"abc"']],
      };
    },
    get: act('get'),
    release: act('release'),
    pin: act('pin'),
    unpin: act('unpin'),
    verify: act('verify'),
    top: async () => ({
      nowMs: 0,
      live: [
        {
          pid: 7,
          command: 'less',
          uid: 0,
          recalls: 1,
          bytes: 2,
          path: 'docs/deep/b.iso',
          offsetBytes: 0,
          lengthBytes: 1024,
          doneBytes: 512,
          ageMs: 20,
        },
      ],
      requesters: [{ pid: 7, command: 'less', uid: 0, recalls: 3, bytes: 4096 }],
      bytesPerSecond: 2048,
    }),
    log: async function* () {
      yield { timeMs: 0, level: 'warn', message: 'slow remote', fields: { path: 'a b', ms: 5 } };
    },
    refresh: act('refresh'),
    stop: async () => ({
      stopped: false,
      holders: [{ pid: 7, command: 'less', what: 'fd 3 /mnt/docs/a.txt' }],
    }),
    metrics: async () => [],
  };
}
