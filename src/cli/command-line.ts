/**
 * The command line: finds the verb, loads only its module (start-up time is felt at every call), parses its options,
 * runs it, and ends the process with its exit code.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { EbbError } from '../base/errors.ts';
import { rawArguments } from './raw-arguments.ts';
import { suggest } from './suggest.ts';
import { processTerminal, visibleSentence } from './terminal.ts';
import type { Terminal } from './terminal.ts';
import { ExitCode, UsageError } from './verb.ts';
import type { Verb } from './verb.ts';
import { verbLoaders, verbSummaries } from './verbs.ts';
import type { VerbName } from './verbs.ts';

async function main(argv: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const [first, ...rest] = argv;
  if (first === undefined) {
    terminal.warn(overview());
    return ExitCode.usage;
  }
  if (first === '--version' || first === '-V' || first === 'version') {
    terminal.print(`ebb ${version()}`);
    return ExitCode.done;
  }
  if (first === '--help' || first === '-h' || (first === 'help' && rest[0] === undefined)) {
    terminal.print(overview());
    return ExitCode.done;
  }
  if (first === 'help') return runVerb(rest[0] ?? '', ['--help'], terminal);
  // mount(8) runs `ebb REMOTE DIR -o OPTIONS` for a file system type of fuse.ebb.
  if (/^[a-z]+:\/\/|^\//i.test(first)) return runVerb('mount', argv, terminal);
  return runVerb(first, rest, terminal);
}

async function runVerb(
  name: string,
  argv: readonly string[],
  terminal: Terminal,
): Promise<ExitCode> {
  if (!isVerbName(name)) {
    const what = name.startsWith('-') ? 'option' : 'verb';
    const near = suggest(name, Object.keys(verbLoaders));
    const hint = near === undefined ? 'ebb --help lists them' : `did you mean "ebb ${near}"?`;
    terminal.warn(`ebb: there is no ${what} "${visibleSentence(name)}"; ${hint}`);
    return ExitCode.usage;
  }
  const verb = await verbLoaders[name]();
  const command = await buildCommand(verb);
  const options = argv.slice(0, endOfOptions(argv));
  if (options.some((word) => word === '--help' || word === '-h')) {
    // `-h` means human-readable sizes where a verb has it.
    const isHelp = options.includes('--help') || command.options.every((o) => o.short !== '-h');
    if (isHelp) {
      const { manual } = await import('./help.ts');
      terminal.print(manual(verb, command, terminal.columns));
      return ExitCode.done;
    }
  }
  try {
    requireAction(verb, argv);
    command.parse(verb.prepareArguments?.(argv) ?? [...argv], { from: 'user' });
    return await verb.run(command, terminal);
  } catch (error) {
    const [word] = command.args.length > 0 ? command.args : argv;
    const action = verb.actions?.find((known) => known === word);
    const name = action === undefined ? verb.name : `${verb.name} ${action}`;
    const code = explainFailure(name, verb.name, error, terminal);
    return (await verb.afterFailure?.(code)) ?? code;
  }
}

/** Said before that other arguments are missing: who mistypes the action is not helped by those. */
function requireAction({ actions }: Verb, [word]: readonly string[]): void {
  if (actions === undefined || word === undefined || word.startsWith('-')) return;
  if (actions.includes(word)) return;
  const known =
    actions.length > 1
      ? `the actions are ${actions.join(', ')}`
      : `the action is ${actions.join('')}`;
  throw new UsageError(`${known}, not "${word}"`);
}

function endOfOptions(argv: readonly string[]): number {
  const at = argv.indexOf('--');
  return at < 0 ? argv.length : at;
}

async function buildCommand(verb: Verb): Promise<Command> {
  const { Command } = await import('commander');
  const command = new Command(`ebb ${verb.name}`);
  command.helpOption(false).exitOverride();
  command.configureOutput({ writeOut: () => {}, writeErr: () => {} });
  verb.define(command);
  return command;
}

/**
 * Says in one sentence on standard error what ended the verb; returns the exit code. `name`: of verb and action;
 * `manualName`: of the verb.
 */
function explainFailure(
  name: string,
  manualName: string,
  error: unknown,
  terminal: Terminal,
): ExitCode {
  const say = (sentence: string): void =>
    terminal.warn(`ebb ${name}: ${visibleSentence(sentence)}`);
  if (error instanceof UsageError) {
    say(`${error.message} (ebb ${manualName} --help)`);
    return ExitCode.usage;
  }
  if (isCommanderError(error)) {
    const sentence = error.message.replace(/^error: /, '').replaceAll('\n', ' ');
    say(`${sentence.replace('(Did you mean', '(did you mean')} (ebb ${manualName} --help)`);
    return ExitCode.usage;
  }
  if (error instanceof EbbError) {
    say(error.message);
    return ExitCode.failed;
  }
  const debug = process.env['EBB_DEBUG'] !== undefined;
  say(
    error instanceof Error ? ((debug ? error.stack : undefined) ?? error.message) : String(error),
  );
  return ExitCode.failed;
}

function isCommanderError(error: unknown): error is Error {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' && code.startsWith('commander.');
}

function isVerbName(name: string): name is VerbName {
  return Object.hasOwn(verbLoaders, name);
}

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function overview(): string {
  const lines = [
    'ebb - remote directories as local ones: names at once, content by the byte range, native speed',
    '      once it is here',
    '',
    'SYNOPSIS',
    '    ebb VERB [OPTION]... [ARGUMENT]...',
    '    ebb VERB --help',
    '',
    'VERBS',
    ...Object.entries(verbSummaries).map(([name, text]) => `    ${name.padEnd(10)}${text}`),
    '',
    'Try it: ebb demo',
    'Start:  ebb mount https://example.org/pub/ /mnt/pub',
    '',
    'Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 refused for safety.',
  ];
  return lines.join('\n');
}

/** Of this process, which ends with it. */
export async function runCommandLine(): Promise<never> {
  const terminal = processTerminal();
  const code = await main(rawArguments(process.argv), terminal);
  await terminal.flush();
  // Not `exitCode`: a half-closed pipe or a timer must not keep a finished command alive.
  process.exit(code);
}
