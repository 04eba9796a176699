/** Programs that depend on more than bytes in order: executing from the mount, databases, repositories. */
import { copyFileSync, chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mebibyte, lines, noise } from '../support/corpus.ts';
import type { CorpusWriter } from '../support/corpus.ts';
import { runOk } from '../support/run.ts';
import { assertSameOutput } from './probe.ts';
import type { Probe } from './probe.ts';

/**
 * A program that carries noise and prints a sum over it: pages of the mapping are needed one by one. With the name of a
 * file it also maps that, and prints a sum over it.
 */
const programSource = `
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
__asm__(".section .rodata\\n.globl table\\n.balign 4096\\ntable: .incbin \\"noise\\"\\n"
        ".globl table_end\\ntable_end:\\n.previous");
extern const unsigned char table[], table_end[];
static void print_sum(const unsigned char *from, const unsigned char *to) {
  unsigned long sum = 0;
  for (const unsigned char *at = to; at-- > from;) sum = sum * 31 + *at;
  printf("%lu %lu\\n", (unsigned long)(to - from), sum);
}
int main(int count, char **arguments) {
  print_sum(table, table_end);
  if (count == 1) return 0;
  struct stat facts;
  int self = open(arguments[1], O_RDONLY);
  if (self < 0 || fstat(self, &facts) != 0) return 1;
  unsigned char *all = mmap(NULL, facts.st_size, PROT_READ, MAP_SHARED, self, 0);
  if (all == MAP_FAILED) return 1;
  print_sum(all, all + facts.st_size);
  return 0;
}
`;

/** From the end, page by page. */
const librarySource = `
__asm__(".section .rodata\\n.local table, table_end\\n.balign 4096\\n"
        "table: .incbin \\"noise\\"\\ntable_end:\\n.previous");
extern const unsigned char table[] __attribute__((visibility("hidden")));
extern const unsigned char table_end[] __attribute__((visibility("hidden")));
int sum(void) {
  unsigned sum = 0;
  for (const unsigned char *at = table_end; at-- > table;) sum = sum * 31 + *at;
  return (int)(sum >> 1);
}
`;

/** Compiles the program above; it carries `noiseBytes` and needs all of them. */
export async function compileInto(
  writer: CorpusWriter,
  name: string,
  flags: readonly string[],
  noiseBytes: number = 3 * mebibyte,
): Promise<void> {
  const program = writer.at(name);
  const build = path.join(writer.root, '..', `build-${name}`);
  await runOk('mkdir', ['-p', build]);
  writeFileSync(path.join(build, 'noise'), noise(name, noiseBytes));
  writeFileSync(path.join(build, 'main.c'), programSource);
  await runOk('gcc', [...flags, '-O1', '-o', program, 'main.c'], {
    cwd: build,
    timeoutMs: 60_000,
    debianPackage: 'gcc',
  });
  await runOk('rm', ['-rf', build]);
  chmodSync(program, 0o755);
  writer.age(name);
}

function execProbe(name: string, prepare: Probe['prepare'], script: string): Probe {
  return {
    name,
    sees: 'content',
    when: (traits) => traits.executable,
    prepare,
    run: (context) => assertSameOutput(context, script),
  };
}

const staticProgram = execProbe(
  'exec-static',
  (writer) => compileInto(writer, 'static', ['-static']),
  './static',
);

const dynamicProgram = execProbe(
  'exec-dynamic',
  (writer) => compileInto(writer, 'dynamic', ['-pie', '-fPIE']),
  './dynamic && ./dynamic',
);

/** A large program of the system, cold from its first page. */
const systemProgram = execProbe(
  'exec-system',
  (writer) => {
    copyFileSync('/bin/bash', writer.at('shell'));
    chmodSync(writer.at('shell'), 0o755);
    writer.age('shell');
  },
  `./shell -c 'for i in 1 2 3; do printf "%s\\n" "$((i * 7))"; done; echo "$0" | tr a-z A-Z'`,
);

const script = execProbe(
  'exec-script',
  (writer) => {
    writer.text(
      'script',
      `#!/bin/sh\necho "from a script" "$@"\n# ${'x'.repeat(9000)}\necho end\n`,
    );
    chmodSync(writer.at('script'), 0o755);
  },
  './script one two',
);

const interpreted = execProbe(
  'exec-interpreter',
  (writer) => {
    copyFileSync('/bin/bash', writer.at('interpreter'));
    chmodSync(writer.at('interpreter'), 0o755);
    writer.age('interpreter');
    writer.text('script', '#!./interpreter\necho "by ${BASH##*/}" "$@"\n');
    chmodSync(writer.at('script'), 0o755);
  },
  './script one two',
);

/** Larger than what is brought whole, and not executable, as libraries are. */
const library = execProbe(
  'dlopen',
  async (writer) => {
    const build = path.join(writer.root, '..', 'build-library');
    await runOk('mkdir', ['-p', build]);
    writeFileSync(path.join(build, 'noise'), noise('library', 3 * mebibyte));
    writeFileSync(path.join(build, 'library.c'), librarySource);
    const flags = ['-shared', '-fPIC', '-O1', '-o', writer.at('library.so'), 'library.c'];
    await runOk('gcc', flags, { cwd: build, timeoutMs: 60_000, debianPackage: 'gcc' });
    await runOk('rm', ['-rf', build]);
    chmodSync(writer.at('library.so'), 0o644);
    writer.age('library.so');
  },
  `python3 -c 'import ctypes; print(ctypes.CDLL("./library.so").sum())'`,
);

const database: Probe = {
  name: 'sqlite',
  sees: 'content',
  async prepare(writer) {
    const sql = `PRAGMA page_size=4096;
      CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
        INSERT INTO item SELECT i, 'name ' || (i * 7919 % 6007), zeroblob(i % 300 + 1) FROM n;
      CREATE INDEX by_name ON item(name);`;
    await runOk('sqlite3', [writer.at('items.db')], { input: sql, debianPackage: 'sqlite3' });
    writer.age('items.db');
  },
  async run(context) {
    const query = `SELECT count(*), sum(id), sum(length(body)) FROM item WHERE name > 'name 3';
      SELECT id, name FROM item ORDER BY name DESC LIMIT 20; PRAGMA integrity_check;`;
    for (const uri of ['file:items.db?immutable=1', 'file:items.db?mode=ro']) {
      await assertSameOutput(context, `sqlite3 '${uri}' "${query}"`);
    }
    await assertSameOutput(
      context,
      `sqlite3 'file:items.db?immutable=1' "PRAGMA mmap_size=9999999; ${query}"`,
    );
  },
};

/** The repository's directory has no dot: listings of web servers hide such names. */
const git = 'git --no-optional-locks --git-dir=repository --work-tree=work';

const repository: Probe = {
  name: 'git',
  sees: 'content',
  async prepare(writer) {
    for (let index = 0; index < 40; index += 1) {
      writer.text(`work/d${index % 7}/file-${index}.txt`, lines(`git ${index}`, index * 5));
    }
    writer.bytes('work/binary.bin', 700_000);
    const make = `set -e; export ${gitIdentity}
      git -c init.defaultBranch=main --git-dir=repository --work-tree=work init -q
      g="git --git-dir=repository --work-tree=work -c core.fileMode=false -c gc.auto=0"
      $g add -A; $g commit -qm first; $g gc -q
      echo more >> work/d1/file-1.txt; $g add -A; $g commit -qm second`;
    await runOk('/bin/sh', ['-c', make], { cwd: writer.root, debianPackage: 'git' });
    writer.age('work/d1/file-1.txt');
    await runOk('rm', ['-rf', path.join(writer.root, 'repository/hooks')]);
  },
  async run(context) {
    await assertSameOutput(context, `${git} status --porcelain`);
    await assertSameOutput(context, `${git} log --stat -p`);
    await assertSameOutput(context, `${git} fsck --full --strict`);
    await assertSameOutput(context, `${git} diff HEAD~1 --stat`);
  },
};

const gitIdentity = [
  'GIT_CONFIG_GLOBAL=/dev/null',
  'GIT_AUTHOR_NAME=Tester',
  'GIT_AUTHOR_EMAIL=tester@example.org',
  'GIT_COMMITTER_NAME=Tester',
  'GIT_COMMITTER_EMAIL=tester@example.org',
].join(' ');

const archive: Probe = {
  name: 'tar-extract',
  sees: 'content',
  async prepare(writer) {
    writer.text('in/lines.txt', lines('tar', 9000));
    writer.bytes('in/noise.bin', 700_001);
    await runOk('tar', ['-C', writer.root, '-cf', writer.at('archive.tar'), 'in']);
    await runOk('gzip', ['-k', '-1', writer.at('archive.tar')]);
    for (const name of ['archive.tar', 'archive.tar.gz']) writer.age(name);
  },
  async run(context) {
    await assertSameOutput(context, 'tar -tvf archive.tar');
    await assertSameOutput(context, 'tar -xOf archive.tar in/noise.bin');
    await assertSameOutput(context, 'zcat archive.tar.gz | cksum; gzip -t archive.tar.gz');
  },
};

/** All of them. */
export const programProbes: readonly Probe[] = [
  staticProgram,
  dynamicProgram,
  systemProgram,
  script,
  interpreted,
  library,
  database,
  repository,
  archive,
];
