/** `ebb image` as a user runs it, over images that mke2fs made of a directory: the same names, bytes and facts. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  closeSync,
  linkSync,
} from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { parseMountOptions } from '../../src/cli/image/mount.ts';
import { getXattr, setXattr } from '../../src/sys/xattr.ts';
import { cliMain, ebb } from '../cli/support.ts';
import { debugfs, makeImage } from '../ext4/support/images.ts';
import { dirtyImage, Shutdown } from '../ext4/support/dirty.ts';
import { patternBytes } from '../support/pattern.ts';
import { run, runOk } from '../support/run.ts';
import { startNginx } from '../support/servers.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { TemporaryDirectory } from '../support/temporary.ts';

const mebibyte = 1024 * 1024;
let directory: TemporaryDirectory;
let source: string;
let image: string;

before(async () => {
  directory = await temporaryDirectory('image-cli');
  chmodSync(directory.path, 0o755);
  source = path.join(directory.path, 'source');
  makeSource(source);
  image = await makeImage(directory.path, ['-t', 'ext4', '-d', source]);
});
after(() => directory[Symbol.asyncDispose]());

function makeSource(root: string): void {
  mkdirSync(path.join(root, 'etc/deep/er'), { recursive: true });
  mkdirSync(path.join(root, 'many'));
  for (let index = 0; index < 300; index += 1) {
    writeFileSync(path.join(root, 'many', `file ${index}`), `content ${index}\n`);
  }
  writeFileSync(path.join(root, 'etc/big'), patternBytes(1, 3 * mebibyte + 17));
  writeFileSync(path.join(root, 'etc/empty'), '');
  writeFileSync(path.join(root, 'etc/tool'), '#!/bin/sh\n');
  chmodSync(path.join(root, 'etc/tool'), 0o4755);
  linkSync(path.join(root, 'etc/tool'), path.join(root, 'etc/deep/same-tool'));
  symlinkSync('../big', path.join(root, 'etc/deep/link'));
  symlinkSync('/etc/deep', path.join(root, 'absolute'));
  writeFileSync(path.join(root, 'etc/deep/er/new\nline é'), 'odd name');
  const sparse = path.join(root, 'sparse');
  writeFileSync(sparse, 'begin');
  truncateSync(sparse, 20 * mebibyte);
  setXattr(path.join(root, 'etc/big'), 'user.colour', Buffer.from('blue'));
  utimesSync(path.join(root, 'etc/big'), 1_000_000_000, 1_111_111_111);
}

function tree(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.startsWith('lost+found'))
    .sort();
}

/** Names, types, modes (without set-id bits), times, targets, content. */
function assertSameTree(copy: string, original: string): void {
  assert.deepEqual(tree(copy), tree(original));
  for (const name of tree(original)) {
    const [a, b] = [path.join(copy, name), path.join(original, name)];
    const [found, wanted] = [lstatSync(a), lstatSync(b)];
    assert.equal(found.mode, wanted.mode & ~0o6000, name);
    if (wanted.isSymbolicLink()) assert.equal(readlinkSync(a), readlinkSync(b));
    if (!wanted.isFile()) continue;
    // mke2fs -d keeps whole seconds.
    assert.equal(found.mtimeMs, Math.floor(wanted.mtimeMs / 1000) * 1000, name);
    assert.ok(readFileSync(a).equals(readFileSync(b)), name);
  }
}

test('a tree is copied out of an image with content, modes, times, links, attributes and holes', async () => {
  const copy = path.join(directory.path, 'copy');
  const result = await ebb(['image', 'cp', image, '/', copy]);
  assert.deepEqual([result.code, result.stderr], [0, '']);
  assert.match(result.stdout, /^308 files, 6 directories/);
  assertSameTree(copy, source);
  const big = path.join(copy, 'etc/big');
  assert.equal(Buffer.from(getXattr(big, 'user.colour') ?? []).toString(), 'blue');
  const [tool, same] = [
    statSync(path.join(copy, 'etc/tool')),
    statSync(path.join(copy, 'etc/deep/same-tool')),
  ];
  assert.equal(tool.ino, same.ino);
  assert.ok(statSync(path.join(copy, 'sparse')).blocks < 100, 'holes stay holes');
  const refused = await ebb(['image', 'cp', image, '/etc/big', '/sparse', copy]);
  assert.equal(statSync(path.join(copy, 'big')).size, 3 * mebibyte + 17);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /sparse: It exists already; --force replaces it/);
  assert.equal((await ebb(['image', 'cp', '--force', image, '/sparse', copy])).code, 0);
});

test('it needs no root: another user lists, reads and copies', async () => {
  const home = path.join(directory.path, 'nobody');
  mkdirSync(home, { mode: 0o777 });
  chmodSync(home, 0o777);
  chmodSync(image, 0o644);
  const words = [
    '--disable-warning=ExperimentalWarning',
    cliMain,
    'image',
    'cp',
    image,
    '/etc',
    home,
  ];
  const result = await run(process.execPath, words, { uid: 65_534, gid: 65_534 });
  assert.deepEqual([result.code, result.stderr.toString()], [0, '']);
  assertSameTree(path.join(home, 'etc'), path.join(source, 'etc'));
  assert.equal(statSync(path.join(home, 'etc/big')).uid, 65_534);
});

test('ls and cat follow symlinks inside of the image, and say what is not there', async () => {
  const listed = await ebb(['image', 'ls', image, '/absolute']);
  assert.deepEqual(listed.stdout.split('\n'), ['er', 'link', 'same-tool', '']);
  const long = await ebb(['image', 'ls', '-l', image, '/etc/deep', '/etc/tool']);
  assert.match(long.stdout, /lrwxrwxrwx .* link -> \.\.\/big\n/);
  assert.match(long.stdout, /-rwsr-xr-x +2 .* \/etc\/tool\n/);
  const json = (await ebb(['image', 'ls', '-R', '--json', image])).stdout.trim().split('\n');
  const paths = json.map(
    (line) => (JSON.parse(line) as { entry?: { path: string } }).entry?.path ?? '',
  );
  assert.deepEqual(
    paths.filter((name) => name !== '' && name !== 'lost+found').sort(),
    tree(source),
  );
  assert.equal(
    (await ebb(['image', 'cat', image, '/absolute/../tool', '/many/file 7'])).stdout,
    '#!/bin/sh\ncontent 7\n',
  );
  const content = await run(process.execPath, [cliMain, 'image', 'cat', image, '/absolute/link']);
  assert.ok(content.stdout.equals(readFileSync(path.join(source, 'etc/big'))));
  const missing = await ebb([
    'image',
    'cat',
    image,
    '/etc/none',
    '/etc',
    '/etc/big/x',
    '/many/file 1',
  ]);
  assert.deepEqual([missing.code, missing.stdout], [1, 'content 1\n']);
  assert.match(
    missing.stderr,
    /^ebb image (ls|cat): \/etc\/none: there is no such file in the image\n.*\/etc: .*\n.*\/etc\/big\/x: .*\n$/,
  );
});

test('info says what an image is, also of partitions in qcow2, and which one has to be chosen', async () => {
  const disk = path.join(directory.path, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, 140 * mebibyte);
  await runOk('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', disk], {
    input: 'label: gpt\n,66M\n,66M\n',
    debianPackage: 'fdisk',
  });
  for (const seek of [1, 67]) {
    await runOk('dd', [
      `if=${image}`,
      `of=${disk}`,
      'bs=1M',
      `seek=${seek}`,
      'conv=notrunc,sparse',
    ]);
  }
  const packed = path.join(directory.path, 'disk.qcow2');
  await runOk('qemu-img', ['convert', '-c', '-O', 'qcow2', disk, packed], {
    debianPackage: 'qemu-utils',
  });
  const several = await ebb(['image', 'info', packed]);
  assert.equal(several.code, 1);
  assert.match(
    several.stdout,
    /format +qcow2[\s\S]*Partition table \(GPT\)[\s\S]*Linux filesystem/,
  );
  assert.match(several.stderr, /2 ext file systems.*-o partition=2/);
  const one = await ebb(['image', 'info', '-o', 'partition=2', '--json', packed]);
  const { info } = JSON.parse(one.stdout.split('\n')[0] ?? '') as {
    info: { filesystem: { blockCount: number }; place: object };
  };
  assert.deepEqual(info.place, {
    offsetBytes: 67 * mebibyte,
    sizeBytes: 66 * mebibyte,
    partition: 2,
  });
  assert.equal(info.filesystem.blockCount * 1024, 64 * mebibyte);
  const cat = await ebb(['image', 'cat', '-o', 'offset=67M', packed, '/etc/tool']);
  assert.deepEqual([cat.code, cat.stdout], [0, '#!/bin/sh\n']);
});

test('a journal that was not replayed is read, or left out when that is wanted', async () => {
  const dirty = await dirtyImage(directory.path, {
    load: 'echo new > new; sync new',
    how: Shutdown.flushLog,
  });
  assert.equal((await ebb(['image', 'cat', dirty, '/new'])).stdout, 'new\n');
  assert.match(
    (await ebb(['image', 'info', dirty])).stdout,
    /journal +1 transaction replayed in memory/,
  );
  assert.equal((await ebb(['image', 'cat', '-o', 'noload', dirty, '/new'])).code, 1);
});

test('fast commits are replayed, or left out when that is wanted', async () => {
  const load = 'echo one > one; sync; echo two > two; sync two';
  const fast = await dirtyImage(directory.path, {
    mkfs: ['-t', 'ext4', '-b', '4096', '-O', 'fast_commit'],
    load,
    how: Shutdown.noFlushLog,
  });
  const listed = await ebb(['image', 'ls', fast]);
  assert.deepEqual([listed.code, listed.stdout], [0, 'lost+found\none\ntwo\n']);
  assert.equal((await ebb(['image', 'cat', fast, '/two'])).stdout, 'two\n');
  assert.match((await ebb(['image', 'info', fast])).stdout, /replayed in memory, .* fast changes/);
  const without = await ebb(['image', 'ls', '-o', 'nofastcommit', fast]);
  assert.deepEqual([without.code, without.stdout], [0, 'lost+found\none\n']);
});

test('an image that wants to write outside of the destination cannot', async () => {
  const hostile = await makeImage(
    directory.path,
    ['-t', 'ext4', '-O', '^metadata_csum,^dir_index'],
    16 * mebibyte,
    'hostile',
  );
  const outside = path.join(directory.path, 'outside');
  mkdirSync(outside);
  writeFileSync(path.join(directory.path, 'evil'), 'evil');
  await debugfs(hostile, [
    `symlink /aaaa ${outside}`,
    'mkdir /aaab',
    `cd /aaab`,
    `write ${directory.path}/evil evil`,
    'cd /',
    `write ${directory.path}/evil XXXevil`,
    `mknod /device c 1 3`,
    'mknod /pipe p',
  ]);
  const bytes = readFileSync(hostile);
  const rename = (from: string, to: string): void => {
    const at = bytes.lastIndexOf(from);
    assert.ok(at > 0);
    bytes.write(to, at, 'latin1');
  };
  // The directory gets the name of the symlink before it; a file gets a name that leads upwards.
  rename('aaab', 'aaaa');
  rename('XXXevil', '../evil');
  writeFileSync(hostile, bytes);
  const copy = path.join(directory.path, 'hostile-copy');
  const result = await ebb(['image', 'cp', hostile, '/', copy]);
  assert.notEqual(result.code, 0);
  assert.deepEqual(readdirSync(outside), []);
  assert.equal(existsSync(path.join(directory.path, 'hostile-copy/evil')), false);
  assert.match(result.stderr, /aaaa/);
  assert.equal(lstatSync(path.join(copy, 'aaaa')).isSymbolicLink(), true);
  assert.equal(existsSync(path.join(copy, 'device')), false);
});

test('what is no file is no image, and is not waited for', async () => {
  const fifo = path.join(directory.path, 'fifo');
  await runOk('mkfifo', [fifo]);
  const runDirectory = path.join(directory.path, 'run');
  for (const words of [
    ['info', fifo],
    ['mount', fifo, directory.path],
  ]) {
    const result = await ebb(['image', ...words], { runDirectory });
    assert.match(result.stderr, /fifo is neither a file nor a block device\.\n$/);
    assert.notEqual(result.code, 0);
  }
});

test('who takes only the beginning of a file hears no complaint', async () => {
  const command = `${process.execPath} "$0" image cat "$1" /etc/big | head -c 5`;
  const result = await run('sh', ['-c', command, cliMain, image]);
  assert.deepEqual([result.stdout.length, result.stderr.toString()], [5, '']);
});

test('options of a mount are taken as they are, or not at all', () => {
  const taken = parseMountOptions(['ro,offset=1M', 'native,noload']);
  assert.deepEqual([taken.offsetBytes, taken.native, taken.journal], [mebibyte, true, 'ignore']);
  for (const [option, complaint] of [
    ['partition=2=3', /partition wants a whole number/],
    ['offset=1M=2', /offset wants a size/],
    ['offset=0,partition=1', /either offset= or partition=/],
    ['rw', /read-only/],
    ['native=1', /no option -o native/],
  ] as const) {
    assert.throws(() => parseMountOptions([option]), complaint);
  }
});

test('of a big image on a web server ls fetches less than 1 MiB, and a copy is the same', async () => {
  const served = path.join(directory.path, 'served');
  mkdirSync(served, { mode: 0o755 });
  const big = await makeImage(
    served,
    ['-t', 'ext4', '-d', source],
    16 * 1024 * mebibyte,
    'big disk.img',
  );
  chmodSync(big, 0o644);
  await using counting = await startCountingServer(big);
  const listed = await ebb(['image', 'ls', `${counting.url}/big%20disk.img`]);
  assert.deepEqual(
    [listed.code, listed.stderr, listed.stdout],
    [0, '', 'absolute\netc\nlost+found\nmany\nsparse\n'],
  );
  assert.ok(counting.sentBytes() <= mebibyte, `${counting.sentBytes()} bytes were sent`);
  await using origin = await startNginx({ root: served });
  const copy = path.join(directory.path, 'remote-copy');
  const result = await ebb(['image', 'cp', `${origin.url}big%20disk.img`, '/', copy]);
  assert.deepEqual([result.code, result.stderr], [0, '']);
  assertSameTree(copy, source);
});

test('what goes wrong at a web server is said, with nothing half done', async () => {
  const served = path.join(directory.path, 'broken');
  mkdirSync(served, { mode: 0o755 });
  const file = await makeImage(served, ['-t', 'ext4', '-d', source], 64 * mebibyte, 'a.img');
  await using counting = await startCountingServer(file);
  const missing = await ebb(['image', 'ls', `${counting.url}/none.img`]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /^ebb image \w+: /);
  counting.replaceAfter(6);
  const copy = path.join(directory.path, 'broken-copy');
  const replaced = await ebb([
    'image',
    'cp',
    '--retries',
    '0',
    `${counting.url}/a.img`,
    '/etc/big',
    copy,
  ]);
  assert.equal(replaced.code, 1);
  assert.equal(existsSync(copy), false, 'half a file is none');
});

interface CountingServer extends AsyncDisposable {
  readonly url: string;
  sentBytes(): number;
  /** From that answer on the image is another version. */
  replaceAfter(answers: number): void;
}

/** Serves ranges of one file, and counts the bytes of content that leave. */
async function startCountingServer(file: string): Promise<CountingServer> {
  const { size } = statSync(file);
  const descriptor = openSync(file, 'r');
  const name = `/${encodeURIComponent(path.basename(file))}`;
  let sent = 0;
  let answers = 0;
  let replacedAfter = Infinity;
  const server = createServer((request, response) => {
    answers += 1;
    const etag = answers > replacedAfter ? '"v2"' : '"v1"';
    const headers = {
      etag,
      'accept-ranges': 'bytes',
      'last-modified': 'Sat, 21 Nov 2020 10:00:00 GMT',
    };
    if (request.url !== name) {
      response.writeHead(404).end();
    } else if (request.method === 'HEAD') {
      response.writeHead(200, { ...headers, 'content-length': size }).end();
    } else {
      const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
      assert.ok(from !== undefined, 'the whole image is never asked for');
      const start = Number(from);
      const end = Math.min(to === '' || to === undefined ? size - 1 : Number(to), size - 1);
      const bytes = Buffer.alloc(end - start + 1);
      readSync(descriptor, bytes, 0, bytes.length, start);
      sent += bytes.length;
      const range = {
        'content-range': `bytes ${start}-${end}/${size}`,
        'content-length': bytes.length,
      };
      response.writeHead(206, { ...headers, ...range }).end(bytes);
    }
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sentBytes: () => sent,
    replaceAfter: (count) => {
      replacedAfter = count + answers;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      closeSync(descriptor);
    },
  };
}
