/** `ebb VERB --help`: a manual page as text, made from the verb's description and its options. Pure. */
import type { Command } from 'commander';
import { ExitCode } from './verb.ts';
import type { Verb } from './verb.ts';

const generalExitCodes: Readonly<Record<ExitCode, string>> = {
  [ExitCode.done]: 'Done.',
  [ExitCode.failed]: 'Something failed; standard error says what, one sentence each.',
  [ExitCode.usage]: 'The command line was wrong; nothing was done.',
  [ExitCode.refused]: 'Refused for safety; standard error says why and what to do.',
};

const indent = '    ';
const helpColumnsMax = 100;
const helpColumnsMin = 40;

/** The manual of one verb. `columns` is the width of the terminal. */
export function manual(verb: Verb, command: Command, columns: number): string {
  const width = Math.max(helpColumnsMin, Math.min(columns, helpColumnsMax));
  const sections: string[][] = [
    ['NAME', ...wrap(`ebb ${verb.name} - ${verb.summary}`, width, indent)],
    ['SYNOPSIS', ...verb.synopsis.map((form) => `${indent}ebb ${verb.name} ${form}`.trimEnd())],
    ['DESCRIPTION', ...paragraphs(verb.description, width)],
    ['OPTIONS', ...optionLines(command, width)],
    ['EXIT STATUS', ...exitLines(verb, width)],
    ['EXAMPLES', ...exampleLines(verb, width)],
  ];
  return sections.map((lines) => lines.join('\n')).join('\n\n');
}

function paragraphs(texts: readonly string[], width: number): string[] {
  return texts.flatMap((text, index) => {
    const lines = wrap(text, width, indent);
    return index === 0 ? lines : ['', ...lines];
  });
}

function optionLines(command: Command, width: number): string[] {
  const lines: string[] = [];
  for (const option of command.options) {
    if (option.hidden) continue;
    const names = option.flags.replace(/[<>]/g, '');
    const flags = `${option.short === undefined ? '    ' : ''}${names}`;
    lines.push(`${indent}${flags}`, ...wrap(option.description, width, indent.repeat(3)));
  }
  const short = command.options.some((option) => option.short === '-h') ? '    ' : '-h, ';
  lines.push(`${indent}${short}--help`, `${indent.repeat(3)}Shows this page.`);
  return lines;
}

function exitLines(verb: Verb, width: number): string[] {
  return Object.values(ExitCode).flatMap((code) => {
    const text = verb.exitCodes?.[code] ?? generalExitCodes[code];
    const [first = '', ...rest] = wrap(text, width, `${indent}    `);
    return [`${indent}${code}   ${first.trimStart()}`, ...rest];
  });
}

function exampleLines(verb: Verb, width: number): string[] {
  return verb.examples.flatMap((example) => [
    `${indent}${example.command}`,
    ...wrap(example.explanation, width, indent.repeat(2)),
  ]);
}

/** Breaks text at spaces into lines of at most `width` columns, each after `prefix`; long words stay whole. */
export function wrap(text: string, width: number, prefix: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && prefix.length + line.length + 1 + word.length > width) {
      lines.push(prefix + line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(prefix + line);
  return lines;
}
