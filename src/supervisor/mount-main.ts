/**
 * Entry point of a mount's supervisor, started by `ebb mount`. Lives until the file system is unmounted, or no daemon
 * can be started for it any more (docs/decisions/0022-a-mount-outlives-its-daemon.md).
 */
import { processStartTicks, removeRunRecord, writeRunRecord } from '../base/run-directory.ts';
import type { RunRecord } from '../base/run-directory.ts';
import { MountSupervisor } from './mount-supervisor.ts';
import { runService } from './service.ts';

await runService(async (line, { log, signal }) => {
  const startedAtMs = Date.now();
  const options = { line, standby: wantsStandby(line), startedAtMs, signal, log };
  const { supervisor, facts } = await MountSupervisor.start(options);
  const run: RunRecord = {
    ...(facts['run'] as RunRecord),
    pid: process.pid,
    startTicks: processStartTicks(process.pid) ?? 0,
  };
  try {
    writeRunRecord(run);
  } catch (error) {
    // Nobody would find it, and who started it is told that it failed.
    supervisor.stop();
    await supervisor.ended;
    throw error;
  }
  return {
    facts: { ...facts, run },
    // Where it was given up, the record is how ebb status and ebb umount find it.
    ended: supervisor.ended.then((isGone) => {
      if (isGone) removeRunRecord(run.mountPoint);
      return isGone;
    }),
    stop: () => supervisor.stop(),
    revive: () => supervisor.revive(),
  };
});

/** All else in it is the daemon's, which also says what is wrong with it. */
function wantsStandby(line: string): boolean {
  try {
    const { standby } = JSON.parse(line) as { standby?: unknown };
    return standby !== false;
  } catch {
    return true;
  }
}
