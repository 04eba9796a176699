/**
 * Runs an acting verb: sends the requests, draws progress on a terminal, says per file why it was refused or
 * failed, and adds up. Standard output gets results, standard error progress and complaints.
 */
import type { Command } from 'commander';
import { systemClock } from '../base/clock.ts';
import { addCounts } from '../base/counts.ts';
import type { ActionResult, Progress, RefreshChanges } from '../daemon/api.ts';
import type { ActionVerb, ControlClient } from './client.ts';
import { collectBatches, definePathArguments } from './path-arguments.ts';
import type { Batch, PathOptions } from './path-arguments.ts';
import { ProgressLine, drawIntervalMs } from './progress-line.ts';
import { RateMeter, renderProgress } from './progress.ts';
import { absoluteInMount, Mounts } from './target.ts';
import { visible, visibleSentence } from './terminal.ts';
import type { Terminal } from './terminal.ts';
import { formatBytes, formatCount, formatDuration, formatRate, plural } from './units.ts';
import { ExitCode } from './verb.ts';

interface ActionOptions extends PathOptions {
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Words of one verb for people. */
export interface ActionWords {
  /** `fetched`, as in "12 files fetched, 3.4 GiB". */
  readonly done: string;
  /** `would be fetched`. */
  readonly planned: string;
  /** Whether bytes move, so that a rate means something. */
  readonly movesBytes: boolean;
  /** What is counted, one and many. Default files, whose sizes are shown. */
  readonly things?: readonly [one: string, many: string];
}

/** Declares paths and the options that all acting verbs share. */
export function defineAction(command: Command): void {
  definePathArguments(command);
  command
    .option('-n, --dry-run', 'Says what would be done and changes nothing.')
    .option('-q, --quiet', 'Prints no line per file and no progress, only complaints.')
    .option(
      '--json',
      'Prints one JSON object a line: progress and outcome of files (absolute paths; sizes in bytes), ' +
        'last {"done": ...} with the sums.',
    );
}

/** Does the work of an acting verb on what the command line names. */
export async function runAction(
  verb: ActionVerb,
  words: ActionWords,
  command: Command,
  terminal: Terminal,
): Promise<ExitCode> {
  const options = command.opts<ActionOptions>();
  const batches = await collectBatches(
    new Mounts(),
    command.args,
    options,
    options.dryRun === true,
  );
  const run = new ActionRun(verb, words, options, terminal);
  for (const batch of batches) await run.perform(batch);
  return run.finish(batches.some((batch) => (batch.request.globs?.length ?? 0) > 0));
}

class ActionRun {
  readonly #verb: ActionVerb;
  readonly #words: ActionWords;
  readonly #options: ActionOptions;
  readonly #terminal: Terminal;
  readonly #line: ProgressLine;
  readonly #startedAtMs = systemClock.monotonicMs();
  #meter = new RateMeter();
  #sum: ActionResult = { ok: 0, failed: 0, refused: 0, bytes: 0 };

  constructor(verb: ActionVerb, words: ActionWords, options: ActionOptions, terminal: Terminal) {
    this.#verb = verb;
    this.#words = words;
    this.#options = options;
    this.#terminal = terminal;
    const plain = options.json === true || options.quiet === true;
    this.#line = new ProgressLine(plain ? undefined : terminal);
  }

  async perform(batch: Batch): Promise<void> {
    this.#meter = new RateMeter();
    try {
      for await (const line of batch.client.act(this.#verb, batch.request)) {
        if ('done' in line) this.#add(line.done);
        else this.#show(batch.client, line);
        await this.#terminal.drained();
      }
    } finally {
      this.#line.erase();
    }
  }

  finish(hadPatterns: boolean): ExitCode {
    const { ok, failed, refused } = this.#sum;
    if (this.#options.json === true) {
      this.#terminal.print(JSON.stringify({ done: this.#sum }));
    } else if (ok + failed + refused === 0 && hadPatterns) {
      this.#terminal.warn(`ebb ${this.#verb}: no ${this.#things[0]} matches`);
      return ExitCode.failed;
    } else if (this.#options.quiet !== true) {
      this.#terminal.print(this.#summary());
    }
    if (ok + failed + refused === 0 && hadPatterns) return ExitCode.failed;
    if (failed > 0) return ExitCode.failed;
    return refused > 0 ? ExitCode.refused : ExitCode.done;
  }

  get #things(): readonly [string, string] {
    return this.#words.things ?? ['file', 'files'];
  }

  #add(part: ActionResult): void {
    const { ok, failed, refused, bytes, alreadyHere, changes } = this.#sum;
    this.#sum = {
      ok: ok + part.ok,
      failed: failed + part.failed,
      refused: refused + part.refused,
      bytes: bytes + part.bytes,
      ...(part.alreadyHere === undefined
        ? {}
        : { alreadyHere: (alreadyHere ?? 0) + part.alreadyHere }),
      ...(part.changes === undefined ? {} : { changes: addCounts(changes, part.changes) }),
    };
  }

  #show(client: ControlClient, progress: Progress): void {
    const absolute = absoluteInMount(client.record.mountPoint, progress.path);
    if (this.#options.json === true) {
      this.#terminal.print(JSON.stringify({ ...progress, path: absolute }));
      return;
    }
    const { outcome } = progress;
    if (outcome !== undefined && outcome !== 'ok') {
      this.#line.erase();
      const named = `${progress.path}: `;
      // Who does not know that it is said of each file names the file.
      const why = outcome.error.startsWith(named)
        ? outcome.error.slice(named.length)
        : outcome.error;
      this.#terminal.warn(`ebb ${this.#verb}: ${visible(absolute)}: ${visibleSentence(why)}`);
    } else if (outcome === 'ok' && this.#listsFiles()) {
      this.#line.erase();
      this.#terminal.print(this.#fileLine(absolute, progress));
    }
    this.#draw(progress);
  }

  /** Plain lines when nobody sees the progress, and for what would be done. */
  #listsFiles(): boolean {
    return this.#options.quiet !== true && (!this.#line.isSeen || this.#options.dryRun === true);
  }

  #fileLine(absolute: string, progress: Progress): string {
    const { sizeBytes, broughtBytes = sizeBytes, changes } = progress;
    const name = visible(absolute);
    if (broughtBytes === 0 && sizeBytes > 0) return `${name}: is here already`;
    const word = this.#options.dryRun === true ? this.#words.planned : this.#words.done;
    const size = this.#words.things === undefined ? ` (${formatBytes(broughtBytes)})` : '';
    const what = changes === undefined ? '' : `, ${changesText(changes)}`;
    return `${name}: ${word}${size}${what}`;
  }

  #draw(progress: Progress): void {
    if (!this.#line.isSeen) return;
    this.#meter.add(progress.totalDoneBytes, systemClock.monotonicMs());
    const rate = this.#words.movesBytes ? this.#meter.bytesPerSecond() : undefined;
    this.#line.draw((columns) => renderProgress(progress, rate, columns), drawIntervalMs);
  }

  #summary(): string {
    const { ok, failed, refused, bytes, alreadyHere = 0, changes } = this.#sum;
    const dryRun = this.#options.dryRun === true;
    const word = dryRun ? this.#words.planned : this.#words.done;
    const here = alreadyHere > 0 ? ` (${formatCount(alreadyHere)} here already)` : '';
    const parts = [`${plural(ok - alreadyHere, ...this.#things)} ${word}${here}`];
    if (this.#words.movesBytes || bytes > 0) parts.push(formatBytes(bytes));
    if (changes !== undefined) parts.push(changesText(changes));
    if (failed > 0) parts.push(`${failed} failed`);
    if (refused > 0) parts.push(`${refused} refused`);
    const elapsedMs = systemClock.monotonicMs() - this.#startedAtMs;
    const rate = bytes > 0 && elapsedMs > 0 ? ` (${formatRate((bytes * 1000) / elapsedMs)})` : '';
    const time = this.#words.movesBytes && !dryRun ? ` in ${formatDuration(elapsedMs)}${rate}` : '';
    return `${parts.join(', ')}${time}`;
  }
}

/** `3 new, 1 updated`; `no changes seen`. */
function changesText({ new: added, updated, gone, kept, leftOut, unsure }: RefreshChanges): string {
  const counts = [
    [added, 'new'],
    [updated, 'updated'],
    [gone, 'gone'],
    [kept, 'kept as they are here'],
    [leftOut, 'left out'],
    [unsure, 'to be asked about when they are used'],
  ] as const;
  const said = counts.filter(([count]) => count > 0);
  if (said.length === 0) return 'no changes seen';
  return said.map(([count, word]) => `${formatCount(count)} ${word}`).join(', ');
}
