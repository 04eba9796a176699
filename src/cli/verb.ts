/** What a verb is: its manual, its options, its work. One file per verb in verbs/; main.ts runs them. */
import type { Command } from 'commander';
import type { Terminal } from './terminal.ts';

/** Exit codes, the same for every verb. */
export const ExitCode = { done: 0, failed: 1, usage: 2, refused: 3 } as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export interface Example {
  readonly command: string;
  readonly explanation: string;
}

export interface Verb {
  readonly name: string;
  /** Words that its first argument may be: complaints name them with the verb. */
  readonly actions?: readonly string[];
  /** One line, without a full stop. */
  readonly summary: string;
  /** Without the leading `ebb NAME`; each form one entry. */
  readonly synopsis: readonly string[];
  /** Paragraphs. */
  readonly description: readonly string[];
  /** What the verb's exit codes mean where the general text does not say it well. */
  readonly exitCodes?: Readonly<Partial<Record<ExitCode, string>>>;
  readonly examples: readonly Example[];
  /** Changes the arguments before they are parsed (`mount -o`). */
  readonly prepareArguments?: (argv: readonly string[]) => string[];
  /** Declares arguments and options. */
  define(command: Command): void;
  /** Before the process ends because of an error, wrong arguments included: `code`, or another exit code. */
  afterFailure?(code: ExitCode): Promise<ExitCode>;
  /** Does the work. Throws UsageError or EbbError for what ends it; returns the exit code. */
  run(command: Command, terminal: Terminal): Promise<ExitCode>;
}

/** The user asked for something that cannot be meant: a sentence, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
