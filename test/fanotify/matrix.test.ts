/**
 * What raises FAN_PRE_ACCESS, with which range, on this kernel: everything that the native front end is built on. Each
 * way of touching meets a sparse file of its own below a mark on the whole file system. Needs root.
 */
import assert from 'node:assert/strict';
import { fstatSync, statSync } from 'node:fs';
import { chmod, copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/base/errno.ts';
import { FanEvent } from '../../src/fanotify/constants.ts';
import { Group } from '../../src/fanotify/group.ts';
import { run } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import type { LoopFilesystemType } from '../support/temporary.ts';
import { Listener, compileTouch, makeSparse, skip, touch } from './support.ts';

const page = 4096;
/** Ends inside a page. */
const sizeBytes = 64 * page + 100;
const pagesEnd = 65 * page;

interface Row {
  readonly method: string;
  readonly offset?: number;
  readonly length?: number;
  /** What stands for the fifth word: another sparse file, a name that is free, or the root directory. */
  readonly other?: 'file' | 'name' | 'root';
  /** Events, one after the other: `other`, `new` or nothing for the file itself, then offset+count. */
  readonly events: string;
  /** Errno where it is not the same everywhere; 0 otherwise. */
  readonly fails?: Partial<Record<LoopFilesystemType, number>>;
  /** Where the file system refuses before it asks. */
  readonly silentOn?: LoopFilesystemType;
}

const noData: Row['fails'] = { ext4: Errno.ENXIO, xfs: Errno.ENXIO, btrfs: Errno.ENXIO };
const noClones: Pick<Row, 'fails' | 'silentOn'> = {
  fails: { ext4: Errno.EOPNOTSUPP },
  silentOn: 'ext4',
};

const rows: readonly Row[] = [
  // Nothing that only looks at the file, its attributes or its name.
  ...['open', 'open-write', 'open-trunc', 'stat', 'access', 'fsync'].map((method) => ({
    method,
    events: '',
  })),
  ...['chmod', 'utimens', 'setxattr'].map((method) => ({ method, events: '' })),
  { method: 'rename', other: 'name', events: '' },
  { method: 'link', other: 'name', events: '' },
  // Not those who ask for holes: a file without blocks looks empty to them.
  { method: 'seek-data', events: '', fails: noData },
  { method: 'seek-hole', events: '' },
  { method: 'fiemap', events: '' },
  // Reads: rounded to pages, not cut at the end of the file.
  { method: 'read', length: 100, events: `0+${page}` },
  { method: 'pread', offset: 5000, length: 10, events: `${page}+${page}` },
  { method: 'pread', offset: page - 1, length: 2, events: `0+${2 * page}` },
  { method: 'pread', offset: sizeBytes + 3 * page, length: 10, events: `${67 * page}+${page}` },
  { method: 'readv', offset: page, length: 2 * page, events: `${page}+${2 * page}` },
  { method: 'nowait', offset: page, length: 10, events: `${page}+${page}` },
  { method: 'direct', offset: page, length: page, events: `${page}+${page}` },
  { method: 'uring', offset: page, length: 10, events: `${page}+${page}` },
  { method: 'handle', offset: page, length: 10, other: 'root', events: `${page}+${page}` },
  // A read of nothing has a range of nothing, as FICLONE has.
  { method: 'pread', offset: 0, length: 0, events: '0+0' },
  { method: 'pread', offset: 5000, length: 0, events: `${page}+${page}` },
  // Mappings, when they are made: exactly what is mapped.
  { method: 'map-private', offset: 2 * page, length: 3 * page, events: `${2 * page}+${3 * page}` },
  { method: 'map-shared', offset: 16 * page, length: page, events: `${16 * page}+${page}` },
  { method: 'map-exec', length: page, events: `0+${page}` },
  { method: 'map-none', offset: page, length: page, events: `${page}+${page}` },
  { method: 'map-willneed', length: 2 * page, events: `0+${2 * page}` },
  // Grown with mremap(2): the new part is never asked for.
  { method: 'map-grow', length: 8 * page, events: `0+${page}` },
  { method: 'readahead', length: 8 * page, events: '' },
  { method: 'fadvise', length: 8 * page, events: '' },
  // Copies inside the kernel.
  { method: 'sendfile', length: 2 ** 30, events: `0+${2 ** 30}` },
  { method: 'splice', offset: page, length: page, events: `${page}+${page}` },
  {
    method: 'copy-from',
    length: 2 ** 30,
    other: 'file',
    events: `0+${pagesEnd} other:0+${pagesEnd}`,
  },
  {
    method: 'copy-to',
    length: 2 ** 20,
    other: 'file',
    events: `other:0+${pagesEnd} 0+${pagesEnd}`,
  },
  // Clones: of everything is a range of nothing.
  { method: 'clone-from', other: 'file', events: '0+0 other:0+0', ...noClones },
  { method: 'clone-to', other: 'file', events: 'other:0+0 0+0', ...noClones },
  {
    method: 'clone-range',
    offset: page,
    length: page,
    other: 'file',
    events: `${page}+${page} other:${page}+${page}`,
    ...noClones,
  },
  {
    method: 'dedupe',
    offset: page,
    length: page,
    other: 'file',
    events: `${page}+${page} ${page}+${page} other:${page}+${page}`,
    ...noClones,
  },
  // Cuts: the page of the new end; nothing when it ends with a page.
  { method: 'truncate', offset: 5000, events: `${page}+${page}` },
  { method: 'truncate', offset: sizeBytes + page, events: `${pagesEnd}+${page}` },
  { method: 'ftruncate', offset: 0, events: '0+0' },
  { method: 'ftruncate', offset: page, events: `${page}+0` },
  { method: 'fallocate', offset: page, length: page, events: `${page}+${page}` },
  { method: 'punch', offset: page, length: 2 * page, events: `${page}+${2 * page}` },
  { method: 'zero', offset: page, length: page, events: `${page}+${page}` },
  // All that lies behind moves, but is not mentioned.
  ...['collapse', 'insert'].map((method) => ({
    method,
    offset: page,
    length: page,
    events: `${page}+${page}`,
    fails: { btrfs: Errno.EOPNOTSUPP },
  })),
  // Writes, before anything has changed. An append says where the position is, not where it will write.
  { method: 'pwrite', offset: 5000, length: 10, events: `${page}+${page}` },
  { method: 'direct-write', offset: page, length: page, events: `${page}+${page}` },
  { method: 'append', length: 10, events: `0+${page}` },
  { method: 'pwrite', offset: sizeBytes + 10 * page, length: 10, events: `${74 * page}+${page}` },
  // Files that nobody knows yet.
  { method: 'create', length: 10, other: 'name', events: `new:0+${page}` },
  { method: 'tmpfile', length: 10, other: 'root', events: `new:0+${page}` },
  // Last: its inode number may come again.
  { method: 'unlink', events: '' },
];

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: what raises FAN_PRE_ACCESS, and with which range`, { skip }, async (context) => {
    await using directory = await temporaryDirectory('fanotify-matrix');
    const program = await compileTouch(directory.path);
    await using filesystem = await loopFilesystem({ type });
    const at = (name: string): string => path.join(filesystem.path, name);
    const names = new Map<number, string>();
    for (const index of rows.keys()) {
      await makeSparse(at(`file-${index}`), sizeBytes);
      await makeSparse(at(`other-${index}`), sizeBytes);
      names.set(statSync(at(`file-${index}`)).ino, '');
      names.set(statSync(at(`other-${index}`)).ino, 'other:');
    }
    using group = Group.create({ class: 'preContent' });
    group.mark(filesystem.path, { on: 'filesystem', events: FanEvent.preAccess });
    for (const [index, row] of rows.entries()) {
      const { method, offset = 0, length = 0 } = row;
      await context.test(`${method} ${offset} ${length}`, async () => {
        const seen: string[] = [];
        const listener = new Listener(group, (event) => {
          assert.equal(event.mask, FanEvent.preAccess);
          const name = names.get(fstatSync(event.fd).ino) ?? 'new:';
          seen.push(`${name}${event.offset}+${event.count}`);
          event.allow();
        });
        const others = { file: at(`other-${index}`), name: at(`name-${index}`), root: at('') };
        const other = row.other === undefined ? '' : others[row.other];
        const touched = await listener.during(
          touch(program, method, at(`file-${index}`), offset, length, other),
        );
        assert.equal(touched.errno, row.fails?.[type] ?? 0);
        assert.equal(seen.join(' '), row.silentOn === type ? '' : row.events);
        assert.deepEqual(listener.troubles, []);
      });
    }
  });

  test(`${type}: programs and scripts are asked for when they start`, { skip }, async () => {
    await using filesystem = await loopFilesystem({ type });
    const program = path.join(filesystem.path, 'program');
    const script = path.join(filesystem.path, 'script');
    await copyFile('/bin/echo', program);
    await writeFile(script, `#!${program} said\n`);
    await chmod(script, 0o755);
    const size = statSync(program).size;
    const scriptInode = statSync(script).ino;
    using group = Group.create({ class: 'preContent' });
    group.mark(filesystem.path, { on: 'filesystem', events: FanEvent.preAccess });
    const seen: { inode: number; offset: number; end: number }[] = [];
    const listener = new Listener(group, (event) => {
      const { ino } = fstatSync(event.fd);
      seen.push({ inode: ino, offset: event.offset, end: event.offset + event.count });
      event.allow();
    });
    // By a shell: spawn(2) of Node waits until the program has been started, and nobody would answer.
    const ran = await listener.during(run('sh', ['-c', '"$0"', script], { timeoutMs: 20_000 }));
    assert.equal(ran.stdout.toString(), `said ${script}\n`);
    assert.deepEqual(seen[0], { inode: scriptInode, offset: 0, end: page });
    const ofProgram = seen.filter(({ inode }) => inode !== scriptInode);
    assert.equal(ofProgram[0]?.offset, 0);
    // The segments are mapped: together they reach the last page.
    assert.ok(Math.max(...ofProgram.map(({ end }) => end)) > size - 2 * page);
  });
}
