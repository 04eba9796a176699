/**
 * Programs that change files, for trees that can be written: the same script runs in the tree and in a native copy of
 * the source, and afterwards both hold the same. Each begins with cold files.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { lines, mebibyte, writeFewFiles, writeMixedFiles } from '../support/corpus.ts';
import { runOk } from '../support/run.ts';
import { compileInto } from './programs.ts';
import { assertSameFiles, shell, shellOk } from './probe.ts';
import type { Probe, ProbeContext, RemoteTraits } from './probe.ts';

/** Runs a script in the tree and in a native copy; exit codes, output and all files must be the same afterwards. */
async function assertSameChange(context: ProbeContext, script: string): Promise<void> {
  const expected = path.join(context.scratch, 'expected');
  await runOk('cp', ['-a', context.source, expected]);
  const native = await shell(context, expected, script);
  const ours = await shell(context, context.mount, script);
  const said = `${script}\n${ours.stderr.toString()}`;
  assert.ok(!ours.timedOut, `${said}: did not end`);
  assert.equal(ours.code, native.code, said);
  assert.equal(ours.stdout.toString(), native.stdout.toString(), said);
  // Copied out by reading alone: the tree's files are not this process's to open.
  const out = path.join(context.scratch, 'out');
  mkdirSync(out);
  await shellOk(context, context.mount, 'tar -c -f - . | tar -x -f - -C "$SCRATCH/out"');
  assertSameFiles(out, expected);
}

function changing(
  name: string,
  script: string,
  prepare: Probe['prepare'] = (writer) => writeFewFiles(writer),
  applies: (traits: RemoteTraits) => boolean = () => true,
): Probe {
  return {
    name: `write-${name}`,
    sees: 'content',
    when: (traits) => !traits.readOnly && applies(traits),
    prepare,
    run: (context) => assertSameChange(context, script),
  };
}

const python = (program: string): string => `python3 -c '${program}'`;

/** FICLONERANGE and FICLONE of linux/fs.h. Where the file system cannot clone, both sides are refused. */
const cloning = (program: string): string =>
  python(`
import fcntl, os, struct
def clone(source, target, offset, count, into):
    fcntl.ioctl(target, 0x4020940D, struct.pack("qQQQ", source, offset, count, into))
own = os.open("own", os.O_RDWR | os.O_CREAT)
os.pwrite(own, b"own" * 100000, 0)
try:${program.replaceAll('\n', '\n    ')}
except OSError as error:
    print(error.errno)`);

/** System calls, one way of changing a file each: [name, what to do]. */
const calls: readonly (readonly [string, string])[] = [
  ['partial-block', 'printf XY | dd of=odd.bin bs=1 seek=5001 conv=notrunc status=none'],
  ['append', 'printf tail >> odd.bin; printf tail >> page.bin; printf tail >> empty.bin'],
  ['truncate-open', ': > odd.bin; printf new > page.bin'],
  ['truncate-open-grow', ': > odd.bin; truncate -s 700000 odd.bin'],
  [
    'truncate-held-grow',
    python(`
import os
fd = os.open("odd.bin", os.O_RDWR | os.O_TRUNC)
os.ftruncate(fd, 900001)
os.pwrite(fd, b"new", 300000)
assert os.pread(fd, 4096, 0) == bytes(4096)`),
  ],
  ['truncate-down', 'truncate -s 300001 odd.bin; truncate -s 0 page.bin'],
  ['truncate-down-up', 'truncate -s 300001 odd.bin; truncate -s 1200000 odd.bin'],
  ['truncate-up', 'truncate -s 2000003 odd.bin; truncate -s 9 one.bin'],
  ['punch', 'fallocate -p -o 100000 -l 300000 odd.bin'],
  ['zero', 'fallocate -z -o 4096 -l 8192 odd.bin || echo refused'],
  ['collapse', 'fallocate -c -o 262144 -l 65536 odd.bin || echo refused'],
  ['insert', 'fallocate -i -o 262144 -l 65536 odd.bin || echo refused'],
  ['preallocate', 'fallocate -o 0 -l 3000000 odd.bin'],
  ['rename-over', 'printf new > new; mv new odd.bin; mv page.bin hole.bin'],
  ['rename-away', 'mkdir sub; mv odd.bin sub/other; mv sub elsewhere; cat elsewhere/other | cksum'],
  ['hard-link', 'ln odd.bin link; printf Z | dd of=link bs=1 seek=70000 conv=notrunc status=none'],
  [
    'shared-mapping',
    python(`
import mmap, os
fd = os.open("odd.bin", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[600000:600003] = b"abc"
m.flush()
m.close()`),
  ],
  [
    'copy-range-into',
    python(`
import os
s = os.open("hole.bin", os.O_RDONLY)
d = os.open("odd.bin", os.O_RDWR)
os.copy_file_range(s, d, 90000, 500001, 400003)`),
  ],
  [
    'overwrite-whole',
    python(`
import os
fd = os.open("odd.bin", os.O_WRONLY)
os.pwrite(fd, b"q" * os.fstat(fd).st_size, 0)`),
  ],
  ['unlink-open', 'exec 3< odd.bin; rm odd.bin; cksum <&3'],
  [
    'replace-by-cp',
    'cp hole.bin odd.bin; cp --reflink=always page.bin clone 2> /dev/null || echo refused; rm -f clone',
  ],
  ['clone-into', 'cp --reflink=auto odd.bin fresh; cp --reflink=auto fresh page.bin'],
  [
    'clone-range-into',
    cloning(`
fd = os.open("odd.bin", os.O_WRONLY)
clone(own, fd, 4096, 8192, 524288)
fcntl.ioctl(os.open("hole.bin", os.O_RDWR), 0x40049409, own)`),
  ],
  [
    'clone-range-out',
    cloning(`
fd = os.open("odd.bin", os.O_RDONLY)
clone(fd, own, 262144, 65536, 4096)
clone(fd, own, 524288, 0, 1048576)
fcntl.ioctl(os.open("whole", os.O_WRONLY | os.O_CREAT), 0x40049409, os.open("hole.bin", os.O_RDONLY))`),
  ],
];

const moveOut: Probe = {
  name: 'write-mv-out',
  sees: 'content',
  when: (traits) => !traits.readOnly,
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    mkdirSync(path.join(context.scratch, 'out'));
    const moved = await shellOk(context, context.mount, 'mv -- * "$SCRATCH/out/"; ls -A');
    assert.equal(moved.stdout.toString(), '', 'something stayed behind');
    assertSameFiles(path.join(context.scratch, 'out'), context.source);
  },
};

/** Clones on the same file system: where a file of one's own can be cloned, cold ones can, with the right bytes. */
const cloneInside: Probe = {
  name: 'write-cp-reflink-always',
  sees: 'content',
  when: (traits) => !traits.readOnly,
  prepare: (writer) => writeMixedFiles(writer, 'in'),
  async run(context) {
    const clone = 'cp -r --reflink=always';
    const own = await shell(context, context.mount, `echo own > own; ${clone} own own-too`);
    const result = await shell(context, context.mount, `${clone} in copy`);
    assert.equal(result.code, own.code, result.stderr.toString());
    if (own.code !== 0) return;
    mkdirSync(path.join(context.scratch, 'out'));
    await shellOk(context, context.mount, 'tar -c -f - -C copy . | tar -x -f - -C "$SCRATCH/out"');
    assertSameFiles(path.join(context.scratch, 'out'), path.join(context.source, 'in'));
  },
};

const git = `git -c gc.auto=0 -c core.fileMode=false`;

const repository: Probe = changing(
  'git',
  `set -e; ${git} status --porcelain; ${git} gc -q --prune=now; ${git} fsck --full --strict 2>/dev/null
   echo more >> d1/file-1.txt; ${git} commit -qam third; ${git} log --format=%s%n%T --stat
   rm -rf .git/index .git/objects/info .git/objects/pack .git/logs .git/info/refs .git/packed-refs
   rm -rf .git/COMMIT_EDITMSG .git/gc.*`,
  async (writer) => {
    for (let index = 0; index < 40; index += 1) {
      writer.text(`d${index % 7}/file-${index}.txt`, lines(`git ${index}`, index * 5));
    }
    const make = `set -e; export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@example.org
      export GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@example.org
      git -c init.defaultBranch=main init -q; git add -A; git commit -qm first
      echo x >> d2/file-2.txt; git commit -qam second; rm -rf .git/hooks`;
    await runOk('/bin/sh', ['-c', make], { cwd: writer.root, debianPackage: 'git' });
  },
  (traits) => traits.dotfiles,
);

const database: Probe = changing(
  'sqlite',
  `sqlite3 items.db "DELETE FROM item WHERE id % 3 = 0; INSERT INTO item SELECT id + 10000, name FROM item;
   UPDATE item SET name = 'new' WHERE id < 50; SELECT count(*), sum(id) FROM item; PRAGMA integrity_check"
   sqlite3 items.db .dump > dump.sql; rm items.db`,
  async (writer) => {
    const sql = `CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
        INSERT INTO item SELECT i, 'name ' || (i * 7919 % 40009) FROM n;`;
    await runOk('sqlite3', [writer.at('items.db')], { input: sql, debianPackage: 'sqlite3' });
    writer.age('items.db');
  },
);

const compiler: Probe = changing(
  'gcc',
  'set -e; mkdir build; gcc -O1 -Iinclude -c -o build/a.o src/a.c; gcc -O1 -Iinclude -c -o build/main.o src/main.c;' +
    ' gcc -o build/program build/main.o build/a.o; ./build/program; rm -r build',
  (writer) => {
    writer.text('include/a.h', 'int twice(int);\n');
    writer.text('src/a.c', '#include "a.h"\nint twice(int n) { return 2 * n; }\n');
    writer.text(
      'src/main.c',
      '#include <stdio.h>\n#include "a.h"\nint main(void) { printf("%d\\n", twice(21)); return 0; }\n',
    );
  },
);

const edit: Probe = changing(
  'edit',
  `sed -i 's/needle/NEEDLE/' a.txt; sort -o b.txt b.txt; gzip -n c.txt`,
  (writer) => {
    writer.text('a.txt', lines('edit a', 9000));
    writer.text('b.txt', lines('edit b', 9000));
    writer.text('c.txt', lines('edit c', 9000));
  },
);

const rsyncInto: Probe = changing(
  'rsync-into',
  'cp noise-5m.bin other; printf X | dd of=other bs=1 seek=3000000 conv=notrunc status=none;' +
    ' rsync --inplace --no-whole-file other noise-5m.bin; rsync other noise-1048576.bin; rm other',
  (writer) => writeMixedFiles(writer),
);

const diskImage: Probe = {
  name: 'write-qemu-img',
  sees: 'content',
  when: (traits) => !traits.readOnly,
  prepare(writer) {
    writer.sparse('disk.raw', 24 * mebibyte, [
      [0, 3 * mebibyte],
      [20 * mebibyte, mebibyte + 512],
    ]);
  },
  async run(context) {
    const script = `set -e; qemu-img convert -f raw -O qcow2 disk.raw "$SCRATCH/d.qcow2"
      qemu-img convert -f qcow2 -O raw "$SCRATCH/d.qcow2" "$SCRATCH/back.raw"
      cmp "$SCRATCH/back.raw" "$SOURCE/disk.raw"`;
    await shellOk(context, context.mount, script);
  },
};

const largeProgramBytes = 200 * mebibyte;

/** A program of 200 MB that reads itself: as it was mapped to be run, and through a mapping of its own file. */
const largeProgram: Probe = {
  name: 'write-exec-200m',
  sees: 'content',
  when: (traits) => !traits.readOnly,
  async prepare(writer) {
    await compileInto(writer, 'large', ['-pie', '-fPIE'], largeProgramBytes);
    chmodSync(writer.at('large'), 0o755);
  },
  async run(context) {
    const expected = await shellOk(context, context.source, './large /proc/self/exe');
    const actual = await shellOk(context, context.mount, './large /proc/self/exe');
    assert.equal(actual.stdout.toString(), expected.stdout.toString());
  },
};

/** All probes that change what they look at. */
export const writingProbes: readonly Probe[] = [
  ...calls.map(([name, script]) => changing(name, script)),
  moveOut,
  cloneInside,
  repository,
  database,
  compiler,
  edit,
  rsyncInto,
  diskImage,
  largeProgram,
];
