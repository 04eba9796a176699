/** `ebb status`: all mounts in a table, or one in detail. */
import { toEbbError } from '../../base/errors.ts';
import { systemClock } from '../../base/clock.ts';
import type { MountStatus, TreeStatus } from '../../daemon/api.ts';
import type { RunRecord } from '../../base/run-directory.ts';
import { answerInTime } from '../answer-in-time.ts';
import { ControlClient } from '../client.ts';
import { renderFacts, renderTable } from '../table.ts';
import { imageMounts, imageMountState } from '../image/mounts.ts';
import type { ImageMountView } from '../image/mounts.ts';
import { absolutePath, deadSentence, Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import type { Terminal } from '../terminal.ts';
import { formatBytes, formatCount, formatDuration, formatTime, plural } from '../units.ts';
import { ExitCode } from '../verb.ts';
import type { Verb } from '../verb.ts';

type Status = MountStatus | TreeStatus;

/** What is known of one mount or tree: the daemon's answer, or why there is none. */
type Finding =
  | { readonly record: RunRecord; readonly status: Status }
  | { readonly record: RunRecord; readonly problem: string };

/** Of mounts and trees, and then of images. */
interface Findings {
  readonly found: readonly Finding[];
  readonly images: readonly ImageMountView[];
}

export const status: Verb = {
  name: 'status',
  summary: 'what is mounted and how it is doing',
  synopsis: ['[--json] [DIR...]'],
  description: [
    'Without DIR: one line for each mount, each attached tree and each mounted image of this user. With DIR (any ' +
      'path inside one; of an image its mount point): that one in detail. Mounts whose daemon died are ' +
      'listed too, with what to do about them.',
  ],
  exitCodes: { 1: 'A daemon is dead or does not answer, or DIR is not inside a mount or tree.' },
  examples: [
    { command: 'ebb status', explanation: 'All mounts.' },
    { command: 'ebb status /mnt/pub', explanation: 'One mount in detail.' },
    { command: 'ebb status --json | jq .residentBytes', explanation: 'For a script.' },
  ],
  define: (command) => {
    command
      .argument('[DIR...]')
      .option(
        '--json',
        'Prints one JSON object a line: MountStatus, TreeStatus or ImageMountView ("kind" tells them apart), or ' +
          '{"mountPoint", "problem"} when the daemon does not answer.',
      );
  },
  run: async (command, terminal) => {
    const mounts = new Mounts();
    const { args } = command;
    const asked = new Set(args.map(absolutePath));
    const images = imageMounts().filter((view) => args.length === 0 || asked.has(view.mountPoint));
    const imagePoints = new Set(images.map(({ mountPoint }) => mountPoint));
    const others = args.filter((typed) => !imagePoints.has(absolutePath(typed)));
    const records =
      args.length > 0
        ? others.map((typed) => mounts.locate(typed).client.record)
        : [...mounts.live, ...mounts.dead];
    const found = await Promise.all(records.map((record) => ask(record, mounts)));
    if (command.opts<{ json?: boolean }>().json === true) printJson({ found, images }, terminal);
    else if (args.length > 0) {
      found.forEach((one) => printDetails(one, terminal));
      images.forEach((view) => printImage(view, terminal));
    } else printTable({ found, images }, terminal);
    return found.every((one) => 'status' in one) ? ExitCode.done : ExitCode.failed;
  },
};

async function ask(record: RunRecord, mounts: Mounts): Promise<Finding> {
  if (mounts.dead.includes(record)) {
    return { record, problem: deadSentence(record) };
  }
  try {
    const asked = new ControlClient(record).status();
    return { record, status: await answerInTime(record, asked) };
  } catch (error) {
    return { record, problem: toEbbError(error).message };
  }
}

function printJson({ found, images }: Findings, terminal: Terminal): void {
  for (const one of found) {
    const { mountPoint } = one.record;
    const value = 'status' in one ? one.status : { mountPoint, problem: one.problem };
    terminal.print(JSON.stringify(value));
  }
  for (const view of images) terminal.print(JSON.stringify(view));
}

function printTable({ found, images }: Findings, terminal: Terminal): void {
  if (found.length + images.length === 0) {
    terminal.print('Nothing is mounted; see: ebb mount --help');
    return;
  }
  const columns = [
    { title: 'MOUNT' },
    { title: 'REMOTE' },
    { title: 'FILES', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'LOCAL', align: 'right' },
    { title: 'LIMIT', align: 'right' },
    { title: 'STATE' },
  ] as const;
  const rows = found.map((one) => [
    visible(one.record.mountPoint),
    visible(one.record.remote),
    ...('status' in one ? statusCells(one.status) : ['', '', '', '', visible(one.problem)]),
  ]);
  for (const view of images) {
    const state = imageMountState(view);
    rows.push([visible(view.mountPoint), visible(view.image), '', '', '', '', state]);
  }
  for (const line of renderTable(columns, rows)) terminal.print(line);
}

function statusCells(status: Status): string[] {
  const { cacheLimitBytes } = status;
  return [
    formatCount(status.kind === 'tree' ? status.stubs : status.files),
    formatBytes(status.remoteBytes),
    formatBytes(status.residentBytes),
    cacheLimitBytes === null ? '-' : formatBytes(cacheLimitBytes),
    healthOf(status),
  ];
}

function healthOf(status: Status): string {
  if (!status.remoteReachable) return 'remote unreachable';
  if (status.kind === 'tree' && status.waiting > 0) return `${status.waiting} waiting`;
  if (status.recallsInFlight > 0) return `${plural(status.recallsInFlight, 'recall')} in flight`;
  return 'ok';
}

function printDetails(found: Finding, terminal: Terminal): void {
  terminal.print(visible(found.record.mountPoint));
  if ('problem' in found) {
    terminal.print(`  ${visibleSentence(found.problem)}`);
    return;
  }
  const facts = detailsOf(found).map(([label, value]) => [label, visible(value)] as const);
  for (const line of renderFacts(facts)) terminal.print(line);
}

function printImage(view: ImageMountView, terminal: Terminal): void {
  terminal.print(visible(view.mountPoint));
  const facts = [
    ['image', visible(view.image)] as const,
    ['state', imageMountState(view)] as const,
  ];
  for (const line of renderFacts(facts)) terminal.print(line);
}

function detailsOf({ record, status }: Extract<Finding, { status: Status }>): [string, string][] {
  return status.kind === 'tree' ? treeDetails(status, record) : mountDetails(status);
}

const orNone = (bytes: number | null): string => (bytes === null ? 'none' : formatBytes(bytes));

function startedAt(timeMs: number): string {
  const ageMs = systemClock.nowMs() - timeMs;
  return `${formatTime(timeMs)} (${formatDuration(Math.max(0, ageMs))} ago)`;
}

function daemonText({ pid, version, restarts }: Status): string {
  return `pid ${pid}, version ${version}, restarted ${plural(restarts, 'time')}`;
}

function treeDetails(status: TreeStatus, { keeper }: RunRecord): [string, string][] {
  const { stubs, complete, dirty } = status;
  return [
    ['remote', `${status.remote} (${status.remoteReachable ? 'reachable' : 'unreachable'})`],
    ['state', healthOf(status)],
    ['file system', status.fileSystem],
    ['from the remote', `${plural(stubs, 'file')}: ${formatCount(complete)} wholly here`],
    ['changed here', plural(dirty, 'file')],
    ['remote size', formatBytes(status.remoteBytes)],
    ['local size', formatBytes(status.residentBytes)],
    ['limit', orNone(status.cacheLimitBytes)],
    ['keep free', orNone(status.minFreeBytes)],
    ['state directory', status.stateDirectory],
    ['recalled', formatBytes(status.recalledBytes)],
    ['waiting', plural(status.waiting, 'program')],
    ['supervisor', `pid ${status.supervisorPid}`],
    ['keeper', keeper === undefined ? 'none' : `pid ${keeper.pid}`],
    ['daemon', daemonText(status)],
    ['started', startedAt(status.startedAtMs)],
    ['last error', status.lastError ?? 'none'],
  ];
}

function mountDetails(status: MountStatus): [string, string][] {
  return [
    ['remote', `${status.remote} (${status.remoteReachable ? 'reachable' : 'unreachable'})`],
    ['state', healthOf(status)],
    [
      'known',
      `${plural(status.files, 'file')} in ${plural(status.directories, 'directory', 'directories')}`,
    ],
    ['remote size', formatBytes(status.remoteBytes)],
    ['local size', formatBytes(status.residentBytes)],
    ['cache limit', orNone(status.cacheLimitBytes)],
    ['keep free', orNone(status.minFreeBytes)],
    ['cache', status.cacheDirectory],
    ['recalled', formatBytes(status.recalledBytes)],
    ['open files', formatCount(status.openFiles)],
    [
      'refused',
      `${plural(status.handlesRefused, 'file handle')}, ${plural(status.tokensRefused, 'token')}`,
    ],
    ['passthrough', status.passthrough ? 'yes: resident files are served by the kernel' : 'no'],
    ['privileged', status.privileged ? 'yes' : 'no: mounted through fusermount3'],
    ['supervisor', `pid ${status.supervisorPid}`],
    ['daemon', daemonText(status)],
    ['started', startedAt(status.startedAtMs)],
    ['last error', status.lastError ?? 'none'],
  ];
}
