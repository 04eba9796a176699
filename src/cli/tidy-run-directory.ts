/** What services have left in the run directory that nobody needs any more: looked for whenever one is started. */
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { isRunning, processStartTicks, readRunRecords, runName } from '../base/run-directory.ts';
import { imageMounts } from './image/mounts.ts';

/** Files that are kept of the logs of services that are gone, the newest ones: they may say why. */
export const oldLogsMax = 64;

/** Of a command that was killed: the log of what it had begun to start, a record that it had begun to write. */
const ofProcess = /^(?:starting-([0-9]+)\.log|[0-9a-f]{16}\.json\.([0-9]+))$/;
const logOfService = /^([0-9a-f]{16})\.log(?:\.1)?$/;

/** `directory` is there and verified. Never throws: it is a favour to those who come later. */
export function tidyRunDirectory(directory: string): void {
  try {
    const names = readdirSync(directory);
    const left = names.filter((name) => {
      const [, starting, writing] = ofProcess.exec(name) ?? [];
      const pid = starting ?? writing;
      return pid !== undefined && processStartTicks(Number(pid)) === undefined;
    });
    for (const name of [...left, ...oldLogs(directory, names)]) {
      rmSync(path.join(directory, name), { force: true });
    }
  } catch {
    // The next one tries it again.
  }
}

/** Those of services that are gone, but for the newest. */
function oldLogs(directory: string, names: readonly string[]): string[] {
  const logs = names.filter((name) => logOfService.test(name));
  if (logs.length <= oldLogsMax) return [];
  // Brokers of images have no records.
  const served = [...readRunRecords(directory).filter(isRunning), ...imageMounts()];
  const inUse = new Set(served.map(({ mountPoint }) => runName(mountPoint)));
  const ages = logs
    .filter((name) => !inUse.has(logOfService.exec(name)?.[1] ?? ''))
    .map((name) => ({ name, timeMs: modifiedAtMs(path.join(directory, name)) }));
  ages.sort((one, other) => other.timeMs - one.timeMs);
  return ages.slice(oldLogsMax).map(({ name }) => name);
}

function modifiedAtMs(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
