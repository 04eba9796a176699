/** `ebb daemon`: another daemon for a mount or tree that stays. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError, toEbbError } from '../../base/errors.ts';
import type { ErrnoCode } from '../../base/errno.ts';
import type { ControlClient } from '../client.ts';
import { isTakenAway } from '../taken-away.ts';
import { Mounts } from '../target.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { ExitCode, UsageError } from '../verb.ts';
import type { Verb } from '../verb.ts';

/** A successor has its own end after 60 s, see src/supervisor. */
const replacedMaxMs = 90_000;
const pollMs = 50;

export const daemon: Verb = {
  name: 'daemon',
  actions: ['restart'],
  summary: 'replace the daemon of a mount or tree, which stays',
  synopsis: ['restart [-n] [--json] DIR...'],
  description: [
    'restart has another daemon take the place of the one that serves the mount or attached tree DIR: of a new ' +
      'version of Ebb, or with less memory. Programs notice nothing but a short wait: what is open stays open, no ' +
      'system call fails. Commands of ebb that are under way there (get, verify) are broken off.',
    'Of a tree, what programs wait for already is brought here first. When that takes more than 20 s the daemon is ' +
      'not replaced, and the command fails.',
    'Nothing is asked of the remote for it. Options are those of ebb mount or ebb attach; to change them, unmount ' +
      'and mount, or attach, again. The supervisor stays the one that these started.',
  ],
  examples: [{ command: 'ebb daemon restart /mnt/pub', explanation: 'After an upgrade.' }],
  define: (command) => {
    command
      .argument('<ACTION>')
      .argument('<DIR...>')
      .option('-n, --dry-run', 'Says which daemons would be replaced; changes nothing.')
      .option('--json', 'Prints one JSON object a line: {"mountPoint", "pid", "restarts"}.');
  },
  run: async (command, terminal) => {
    const [action = '', ...directories] = command.args;
    if (action !== 'restart') throw new UsageError(`"${action}" is not restart`);
    const options = command.opts<{ json?: boolean; dryRun?: boolean }>();
    const mounts = new Mounts();
    let code: ExitCode = ExitCode.done;
    for (const typed of directories) {
      try {
        const { client } = mounts.locate(typed);
        const { mountPoint } = client.record;
        if (options.dryRun === true) {
          terminal.print(`would replace the daemon of ${visible(mountPoint)}`);
          continue;
        }
        const { pid, restarts } = await replace(client);
        const line = `${visible(mountPoint)}: served by pid ${pid}`;
        terminal.print(
          options.json === true ? JSON.stringify({ mountPoint, pid, restarts }) : line,
        );
      } catch (error) {
        terminal.warn(`ebb daemon restart: ${visibleSentence(toEbbError(error).message)}`);
        code = ExitCode.failed;
      }
    }
    return code;
  },
};

async function replace(client: ControlClient): Promise<{ pid: number; restarts: number }> {
  const { mountPoint, pid } = client.record;
  let before: number | undefined;
  try {
    before = (await client.status()).pid;
    await client.restart();
  } catch (error) {
    if (toEbbError(error).code !== 'ENOTCONN' || isTakenAway(client.record)) throw error;
    // There is none: one that the supervisor would start later is started now.
    process.kill(pid, 'SIGHUP');
  }
  const untilMs = performance.now() + replacedMaxMs;
  for (;;) {
    const now = await client.status().catch((error: unknown) => {
      if (!passing.has(toEbbError(error).code)) throw error;
    });
    if (now !== undefined && now.pid !== before) return now;
    if (performance.now() > untilMs) {
      throw ebbError('ETIMEDOUT', `no other daemon serves ${mountPoint}; see: ebb status`);
    }
    await sleep(pollMs);
  }
}

/** What a question says whose daemon ends meanwhile. */
const passing: ReadonlySet<ErrnoCode> = new Set(['ENOTCONN', 'EIO', 'ECONNRESET', 'EPIPE']);
