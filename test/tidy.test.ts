/** The code base checks itself: import rule, sizes, names, words that must not stay. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.join(import.meta.dirname, '..');

/** Which folders of src/ a folder may import from, besides itself. Inner to outer; see docs/architecture.md. */
const allowedImports: Readonly<Record<string, readonly string[]>> = {
  base: [],
  sys: ['base'],
  fuse: ['base', 'sys'],
  tree: ['base', 'sys'],
  ext4: ['base', 'sys'],
  remote: ['base', 'sys'],
  catalog: ['base'],
  policy: ['base', 'catalog'],
  recall: ['base', 'tree', 'remote', 'catalog'],
  fanotify: ['base', 'sys'],
  attach: ['base', 'sys', 'tree', 'remote', 'catalog'],
  mount: ['base', 'sys', 'fuse', 'recall', 'tree', 'catalog'],
  native: ['base', 'sys', 'fanotify', 'recall', 'tree', 'catalog'],
  supervisor: ['base', 'sys', 'fanotify', 'fuse'],
  image: ['base', 'sys', 'fuse', 'ext4'],
  daemon:
    `base sys fuse fanotify tree remote catalog policy recall attach mount native supervisor ext4 image`.split(
      ' ',
    ),
  cli: ['base'],
};

/** The CLI may also know the control API's types and nothing else of the daemon; `mount` starts it by path. */
const cliMayImport = new Set(['daemon/api.ts', 'daemon/helper-api.ts', 'daemon/start-api.ts']);

const maximumLines = 450;
const maximumColumns = 120;

function sourceFiles(directory: string): string[] {
  return readdirSync(path.join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(directory, name));
}

function importsOf(text: string): string[] {
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)/g,
  );
  return [...found].map((match) => match[1] ?? match[2] ?? '');
}

test('every folder imports only from folders further in', () => {
  const wrong: string[] = [];
  for (const file of sourceFiles('src')) {
    const folder = file.split(path.sep)[1] ?? '';
    for (const specifier of importsOf(readFileSync(path.join(root, file), 'utf8'))) {
      if (!specifier.startsWith('.')) {
        if (specifier === 'koffi' && folder !== 'sys')
          wrong.push(`${file}: only src/sys imports koffi`);
        continue;
      }
      const target = path.relative('src', path.join(path.dirname(file), specifier));
      const targetFolder = target.split(path.sep)[0] ?? '';
      if (targetFolder === folder) continue;
      if (folder === 'cli' && cliMayImport.has(target)) continue;
      if (!(allowedImports[folder] ?? []).includes(targetFolder)) {
        wrong.push(`${file} imports ${target}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('files stay readable top to bottom', () => {
  const wrong: string[] = [];
  for (const file of [...sourceFiles('src'), ...sourceFiles('test'), ...sourceFiles('bench')]) {
    const lines = readFileSync(path.join(root, file), 'utf8').split('\n');
    if (lines.length > maximumLines) wrong.push(`${file}: ${lines.length} lines`);
    lines.forEach((line, index) => {
      if (line.length > maximumColumns) wrong.push(`${file}:${index + 1}: ${line.length} columns`);
    });
  }
  assert.deepEqual(wrong, []);
});

test('no default exports, no barrels, no work left to do in the code', () => {
  const wrong: string[] = [];
  const leftover = new RegExp(
    `\\b(${['TO', 'DO'].join('')}|${['FIX', 'ME'].join('')}|${['X', 'XX'].join('')})\\b`,
  );
  for (const file of [...sourceFiles('src'), ...sourceFiles('test'), ...sourceFiles('bench')]) {
    const text = readFileSync(path.join(root, file), 'utf8');
    if (/^export default/m.test(text)) wrong.push(`${file}: default export`);
    if (/^export \* from/m.test(text)) wrong.push(`${file}: barrel`);
    if (leftover.test(text)) wrong.push(`${file}: leftover note`);
    if (!/^[a-z0-9-]+(\.[a-z0-9-]+)*\.ts$/.test(path.basename(file)))
      wrong.push(`${file}: name is not kebab-case`);
  }
  assert.deepEqual(wrong, []);
});

test('every source file is used by another file, a test or an entry point', () => {
  const entryPoints = new Set([
    'src/cli/main.ts',
    'src/daemon/main.ts',
    'src/daemon/native-main.ts',
    'src/daemon/native-prepare.ts',
    'src/daemon/attach-check.ts',
    'src/daemon/image/main.ts',
    'src/daemon/image/mount-main.ts',
    'src/daemon/image/worker.ts',
    'src/daemon/pool.ts',
    'src/supervisor/main.ts',
    'src/supervisor/mount-main.ts',
    'src/mount/thread.ts',
    'src/image/sandbox/enter.ts',
    'src/image/sandbox/prime.ts',
    'src/image/server/main.ts',
    'src/image/broker/main.ts',
    'src/image/service/main.ts',
    'src/fanotify/probe-child.ts',
    'src/fanotify/public.ts',
    'src/fuse/public.ts',
    'src/catalog/stub-catalog.ts',
    'src/tree/stubs/stub-store.ts',
    'src/tree/stubs/stub-maker-thread.ts',
    'src/native/options.ts',
    'src/native/server.ts',
    'src/native/thread.ts',
    'src/native/thread-main.ts',
  ]);
  const imported = new Set<string>();
  for (const file of [...sourceFiles('src'), ...sourceFiles('test'), ...sourceFiles('bench')]) {
    for (const specifier of importsOf(readFileSync(path.join(root, file), 'utf8'))) {
      if (specifier.startsWith('.')) imported.add(path.join(path.dirname(file), specifier));
    }
  }
  const dead = sourceFiles('src').filter((file) => !imported.has(file) && !entryPoints.has(file));
  assert.deepEqual(dead, []);
});
