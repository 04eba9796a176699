/** The documentation checks itself: tests that it names, links, verbs and options, numbers of decisions. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Command } from 'commander';
import { manual } from '../src/cli/help.ts';
import { verbLoaders, verbSummaries } from '../src/cli/verbs.ts';

const root = path.join(import.meta.dirname, '..');

function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

const decisions = readdirSync(path.join(root, 'docs/decisions')).sort();
const documents = [
  'README.md',
  ...readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

// --- tests that are named ----------------------------------------------------------------------------------------

const referencePattern = /\[test: (\S+) "((?:[^"\\]|\\.)*)"\]/g;

/** Test files and what they import from test/: what a run of all tests reaches. */
function reachedFiles(): ReadonlySet<string> {
  const reached = new Set<string>();
  const queue = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => path.join('test', name));
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    for (const [, specifier = ''] of read(file).matchAll(/from '(\.[^']+)'/g)) {
      const target = path.join(path.dirname(file), specifier);
      if (target.startsWith('test/')) queue.push(target);
    }
  }
  return reached;
}

/** Whether a file has this text as a whole string, in any quotes. */
function holdsTitle(text: string, title: string): boolean {
  return [`'${title}'`, `"${title}"`, `\`${title}\``].some((quoted) => text.includes(quoted));
}

for (const file of ['docs/semantics.md', 'docs/invariants.md', 'docs/ext4.md']) {
  test(`every test that ${file} names exists`, () => {
    const reached = reachedFiles();
    const wrong: string[] = [];
    // A title may be broken over two lines.
    const text = read(file).replace(/\s*\n\s*/g, ' ');
    const references = [...text.matchAll(referencePattern)];
    assert.ok(references.length > 10, 'the references are found');
    assert.equal(
      references.length,
      text.split('[test:').length - 1,
      'every reference is well-formed',
    );
    for (const [, testFile = '', title = ''] of references) {
      if (!reached.has(testFile)) wrong.push(`${testFile} is run by no test`);
      else if (!holdsTitle(read(testFile), title)) wrong.push(`${testFile} has no "${title}"`);
    }
    assert.deepEqual(wrong, []);
  });
}

test('every statement of docs/semantics.md ends with a test', () => {
  const statements = read('docs/semantics.md').split(/\n(?=- )|\n\n/);
  const bare = statements.filter((text) => text.startsWith('- ') && !/"\]\s*$/.test(text));
  assert.deepEqual(bare, []);
  assert.ok(statements.filter((text) => text.startsWith('- ')).length > 50);
});

// --- links -------------------------------------------------------------------------------------------------------

/** The anchor that GitHub makes of a heading. */
function anchorOf(heading: string): string {
  const plain = heading.toLowerCase().replace(/[^\p{Letter}\p{Number}\s_-]/gu, '');
  return plain.trim().replaceAll(/\s/g, '-');
}

test('relative links lead somewhere', () => {
  const wrong: string[] = [];
  for (const file of documents) {
    const prose = read(file).replaceAll(/```[\s\S]*?```/g, '');
    for (const [, link = ''] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [name = '', anchor] = link.split('#', 2);
      const target = name === '' ? file : path.join(path.dirname(file), name);
      if (!existsSync(path.join(root, target))) wrong.push(`${file}: ${link}`);
      else if (anchor !== undefined) {
        const headings = [...read(target).matchAll(/^#+ (.*)$/gm)].map(([, text = '']) => text);
        if (!headings.map(anchorOf).includes(anchor)) wrong.push(`${file}: ${link}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('paths of the project that are named exist', () => {
  const wrong: string[] = [];
  for (const file of documents) {
    for (const [, named = ''] of read(file).matchAll(
      /`((?:src|test|docs|bench|setup)\/[\w./-]*[\w/])`/g,
    )) {
      if (!existsSync(path.join(root, named))) wrong.push(`${file}: ${named}`);
    }
  }
  assert.deepEqual(wrong, []);
});

// --- verbs and options -------------------------------------------------------------------------------------------

/** Code of a document: what stands in backquotes or in a block, without comments and output of programs. */
function* codeOf(text: string): Generator<string> {
  for (const [, block = ''] of text.matchAll(/```(?:sh|console|text|ini)?\n([\s\S]*?)```/g)) {
    for (const line of block.split('\n')) yield line.replace(/^[#$] /, '').replace(/\s#.*$/, '');
  }
  for (const [, inline = ''] of text.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`\n]+)`/g)) {
    yield inline;
  }
}

interface Use {
  readonly verb: string;
  readonly options: readonly string[];
}

/** `ebb VERB ...` as it stands in a piece of code; undefined for other programs. */
function useOf(code: string): Use | undefined {
  const match = /(?:^|\s|[|;&] ?|\/)ebb\s+([a-z]+)\b([^|;&]*)/.exec(code);
  if (match === null) return undefined;
  const words = (match[2] ?? '').split(/\s+/);
  const options = words
    .map((word) => word.replace(/=.*$/, ''))
    .filter((word) => word.startsWith('-'));
  return { verb: match[1] ?? '', options: options.filter((word) => !/^--?$/.test(word)) };
}

async function helpOf(verb: keyof typeof verbLoaders): Promise<string> {
  const loaded = await verbLoaders[verb]();
  const command = new Command(`ebb ${verb}`);
  loaded.define(command);
  return manual(loaded, command, 100);
}

async function allHelp(): Promise<ReadonlyMap<string, string>> {
  const names = Object.keys(verbLoaders) as (keyof typeof verbLoaders)[];
  return new Map(await Promise.all(names.map(async (name) => [name, await helpOf(name)] as const)));
}

function knows(help: string, option: string): boolean {
  return new RegExp(`^ +.*(?<![\\w-])${option}(?![\\w-])`, 'm').test(help);
}

/** Options of other programs that the documents name beside ours. */
const foreign = new Set(['--unix-socket', '--ignore-scripts', '--help', '-h', '--version']);

test('verbs and options that the documents name exist', async () => {
  const help = await allHelp();
  const everything = [...help.values()].join('\n');
  const wrong: string[] = [];
  for (const file of documents) {
    for (const code of codeOf(read(file))) {
      const use = useOf(code);
      if (use !== undefined && !help.has(use.verb)) {
        wrong.push(`${file}: there is no verb in: ${code}`);
      } else if (use !== undefined) {
        const text = help.get(use.verb) ?? '';
        const unknown = use.options.filter(
          (option) => !foreign.has(option) && !knows(text, option),
        );
        if (unknown.length > 0) wrong.push(`${file}: ebb ${use.verb} has no ${unknown.join(' ')}`);
      } else if (/^--[a-z-]+/.test(code)) {
        const option = /^--[a-z-]+/.exec(code)?.[0] ?? '';
        if (!foreign.has(option) && !knows(everything, option)) wrong.push(`${file}: ${option}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('every option of ebb mount and every verb is in docs/operating.md', async () => {
  const text = read('docs/operating.md');
  const loaded = await verbLoaders.mount();
  const command = new Command('ebb mount');
  loaded.define(command);
  const options = command.options.map((option) => option.long ?? option.short ?? '');
  const missing = [
    ...options.filter((option) => !text.includes(`\`${option}`) && !text.includes(` ${option}`)),
    ...Object.keys(verbSummaries).filter((verb) => !text.includes(`ebb ${verb}`)),
  ];
  assert.deepEqual(missing, []);
});

// --- decisions ---------------------------------------------------------------------------------------------------

test('decisions are numbered from 1, each number once, without gaps', () => {
  const numbers = decisions.map((name) => {
    assert.match(name, /^\d{4}-[a-z0-9-]+\.md$/);
    assert.match(read(`docs/decisions/${name}`), new RegExp(`^# ${name.slice(0, 4)}:? `), name);
    return Number(name.slice(0, 4));
  });
  assert.equal(new Set(numbers).size, numbers.length, 'a number is used twice');
  assert.deepEqual(
    numbers,
    [...numbers.keys()].map((index) => index + 1),
  );
});

test('decisions that are cited exist', () => {
  const known = new Set(decisions.map((name) => name.slice(0, 4)));
  const sources = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join('src', name));
  const wrong: string[] = [];
  for (const file of [...sources, ...documents]) {
    for (const [, number = '', rest] of read(file).matchAll(/decisions\/(\d{4})(-[\w-]+\.md)?/g)) {
      const named = rest === undefined ? known.has(number) : decisions.includes(number + rest);
      if (!named) wrong.push(`${file}: ${number}${rest ?? ''}`);
    }
  }
  assert.deepEqual(wrong, []);
});
