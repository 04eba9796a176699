/** One file of many modules does what they do. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { bundle } from '../../../src/image/sandbox/bundle.ts';
import { runOk } from '../../support/run.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const flags = ['--disable-warning=ExperimentalWarning'];

const modules = {
  'main.ts': `
    import { inspect } from 'node:util';
    import koffi from 'koffi';
    import { greet, type Name as Unused } from '~/inner/greet.ts';
    import type { Name } from '~/inner/greet.ts';
    import * as counter from '~/counter.ts';
    const limit: number = 3;
    await Promise.resolve();
    for (let index = 0; index < limit; index += 1) counter.count();
    const name: Name = { first: 'Ann' };
    console.log(greet(name), counter.counted(), inspect(new counter.Place()), typeof koffi.load);
  `,
  'inner/greet.ts': `
    /** export function is only said here, and import { x } from 'y'; too. */
    import { count as tick, counted } from '~./counter.ts';
    import {
      limit,
    } from '~/limit.ts';
    export interface Name { readonly first: string }
    export const greet = ({ first }: Name): string => {
      tick();
      return \`Hello \${first}: \${counted()} of \${limit}\`;
    };
  `,
  'inner/limit.ts': `export const limit = 10;`,
  'counter.ts': `
    import path from 'node:path';
    let total = 0;
    const limit = 'mine';
    export function count(): void { total += 1; }
    export function counted(): string { return \`\${total} \${limit}\`; }
    export class Place { readonly at = path.basename(import.meta.dirname); }
  `,
};

/** The texts, each line without what it is indented by here; ~ is a dot: no import of this file is meant. */
function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(root, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text.replaceAll(/^ {4}/gm, '').replaceAll("'~", "'."));
  }
}

test('one file does what its modules do, each of them once', async () => {
  // Where packages are found.
  await using directory = await temporaryDirectory('bundle');
  write(directory.path, modules);
  const entry = path.join(directory.path, 'main.ts');
  const { code, files } = bundle(entry);
  const single = path.join(directory.path, 'elsewhere/single.mjs');
  write(directory.path, { 'elsewhere/single.mjs': code });
  const { stdout } = await runOk(process.execPath, [...flags, single]);
  const at = path.basename(directory.path);
  assert.equal(
    stdout.toString(),
    `Hello Ann: 4 mine of 10 4 mine Place { at: '${at}' } function\n`,
  );
  assert.deepEqual(
    [...files].sort(),
    Object.keys(modules)
      .map((name) => path.join(directory.path, name))
      .sort(),
  );
});

test('what one file could not say is refused, not left out', async () => {
  await using directory = await temporaryDirectory('bundle');
  const refused = {
    'default.ts': 'export default 1;',
    'list.ts': 'const a = 1;\nexport { a };',
    'variable.ts': 'export let a = 1;',
    'pattern.ts': 'export const { a } = { a: 1 };',
    'again.ts': "export * from '~/default.ts';",
    'effect.ts': "import '~/variable.ts';",
    'later.ts': "export const a = import('~/default.ts');",
    'place.ts': 'export const a = import.meta.url;',
    'one.ts': "import { b } from '~/other.ts';\nexport const a = () => b;",
    'other.ts': "import { a } from '~/one.ts';\nexport const b = () => a;",
  };
  write(directory.path, refused);
  for (const name of Object.keys(refused)) {
    assert.throws(() => bundle(path.join(directory.path, name)), { code: 'EINVAL' }, name);
  }
});
