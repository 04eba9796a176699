/**
 * A real systemd in namespaces of its own (systemd.sh): boots with the units of a test, and with nothing of what this
 * machine has. Its processes are known here by their own numbers inside: use `run`, `shell` and what these print.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { mountAt, parseMountInfo } from '../../src/base/mount-info.ts';
import { killAtExit, killGroup, run } from './run.ts';
import type { RunResult } from './run.ts';
import { waitFor } from './wait-for.ts';

const script = path.join(import.meta.dirname, 'systemd.sh');
const project = path.join(import.meta.dirname, '../..');
const program = '/usr/lib/systemd/systemd';
const systemUnits = '/usr/lib/systemd/system';
/** Of systemd's own units those that a boot, an ordinary service and turning off need. */
const standardTargets =
  'sysinit basic multi-user local-fs local-fs-pre network-online network slices paths sockets timers swap ' +
  'shutdown umount final poweroff';
const standardUnits = [
  ...standardTargets.split(' ').map((name) => `${name}.target`),
  'systemd-poweroff.service',
];
const bootMaxMs = 60_000;
const commandMaxMs = 60_000;

export interface SystemdOptions {
  /** Name and text of unit files and drop-ins. */
  readonly units: Readonly<Record<string, string>>;
  /** Shell commands: what was done with this machine before it was booted. */
  readonly prepare: string;
  /** Is `/run/test` inside: for what goes in and comes out. Holds what the units need already. */
  readonly directory: string;
}

/** Why there can be no systemd here: for `skip`. Undefined: nothing is known against it. */
export function whyNoSystemd(): string | undefined {
  if (process.getuid?.() !== 0) return 'systemd in namespaces of its own needs root';
  if (!existsSync(program)) return `there is no ${program} (Debian package systemd)`;
  return undefined;
}

/** This machine does not let anybody make such namespaces: nothing is known of what was to be tested. */
export class NoSystemd extends Error {}

export class Systemd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #said: () => string;
  /** Of systemd, as this process sees it. */
  #pid = 0;

  private constructor(child: ChildProcess, said: () => string) {
    this.#child = child;
    this.#said = said;
  }

  /** Resolves when systemd has been started; what it starts by itself is under way. */
  static async boot({ units, prepare, directory }: SystemdOptions): Promise<Systemd> {
    const place = path.join(directory, 'units');
    for (const name of ['units', 'lib']) await mkdir(path.join(directory, name));
    for (const name of standardUnits) {
      await symlink(path.join(systemUnits, name), path.join(place, name));
    }
    for (const [name, text] of Object.entries(units)) {
      await mkdir(path.dirname(path.join(place, name)), { recursive: true });
      await writeFile(path.join(place, name), text);
    }
    await writeFile(path.join(directory, 'prepare'), prepare);
    const child = spawn('sh', [script, directory, project], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    killAtExit(child);
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes: Buffer) => (said = (said + bytes.toString()).slice(-16_384)));
    }
    const systemd = new Systemd(child, () => said);
    try {
      await systemd.#started();
      return systemd;
    } catch (error) {
      await systemd[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #started(): Promise<void> {
    this.#pid = await waitFor(
      () => {
        if (this.hasEnded) return -1;
        return Number(/^first process (\d+)$/m.exec(this.#said())?.[1] ?? 0);
      },
      { what: 'the machine of systemd to be prepared', timeoutMs: bootMaxMs },
    );
    if (this.#pid < 0) {
      const Failure = /^namespaces are ready$/m.test(this.#said()) ? Error : NoSystemd;
      throw new Failure(`no systemd could be started: ${this.#said()}`);
    }
    // Its socket for commands.
    const isReachable = async (): Promise<boolean> =>
      this.hasEnded || (await this.run('systemctl', ['show', '-p', 'Version'])).code === 0;
    await waitFor(isReachable, { what: 'systemd to take commands', timeoutMs: bootMaxMs });
    if (this.hasEnded) throw new Error(`systemd has ended: ${this.#said()}`);
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** A command that runs a program inside, seen there like any other process, when it is put in front of that. */
  get inside(): readonly string[] {
    return ['nsenter', '--target', String(this.#pid), '--mount', '--pid', '--uts', '--ipc'];
  }

  run(command: string, parameters: readonly string[]): Promise<RunResult> {
    const [enter = '', ...words] = this.inside;
    return run(enter, [...words, command, ...parameters], { timeoutMs: commandMaxMs });
  }

  /** What a command prints, without white space around it; it must end with 0. */
  async say(command: string, ...parameters: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command, parameters);
    if (code === 0) return stdout.toString().trim();
    throw new Error(`${command} ${parameters.join(' ')}: ${code} ${stderr.toString()}`);
  }

  /** Properties of a unit. */
  async show(unit: string, ...names: string[]): Promise<string[]> {
    const given = await this.say('systemctl', 'show', unit, ...names.map((name) => `-p${name}`));
    const values = new Map(
      given.split('\n').map((line) => line.split(/=(.*)/s, 2) as [string, string]),
    );
    return names.map((name) => values.get(name) ?? '');
  }

  /** Number of what is mounted at a place inside; undefined: nothing is. */
  mountAt(place: string): number | undefined {
    const mounts = parseMountInfo(readFileSync(`/proc/${this.#pid}/mountinfo`));
    return mountAt(mounts, place)?.mountId;
  }

  /** Resolves when all its processes are gone. */
  async ended(): Promise<void> {
    await waitFor(() => this.hasEnded, { what: 'systemd to end', timeoutMs: commandMaxMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.hasEnded) return;
    const ended = once(this.#child, 'exit');
    // With the first process all others end, and whoever started it cleans up.
    if (this.#pid > 0) await run('kill', ['-KILL', String(this.#pid)]);
    else killGroup(this.#child);
    await ended;
  }
}
