/** Kernel file handles on real mounts: what they mean lasts, and nobody can make one up. Needs root. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { CorpusWriter } from '../support/corpus.ts';
import { HandleProcess } from '../support/handles.ts';
import { dropNames } from '../support/kernel-caches.ts';
import { mountEbb, withEbb } from '../support/mount.ts';
import type { EbbMount } from '../support/mount.ts';
import { runOk } from '../support/run.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';

/** EBB_HANDLE_CYCLES=100000 and EBB_FORGED_HANDLES=100000 for the full length. */
const cycles = Number(process.env['EBB_HANDLE_CYCLES'] ?? 300);
const forgedCount = Number(process.env['EBB_FORGED_HANDLES'] ?? 2_000);
const forgedBatch = 5_000;
const longMs = 7_200_000;

interface Scene extends AsyncDisposable {
  readonly source: CorpusWriter;
  readonly mount: EbbMount;
  readonly handles: HandleProcess;
}

async function scene(options: readonly string[] = []): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('handles'));
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  for (const name of ['file', 'sub/deep/other']) source.text(name, `this is ${name}`);
  const mount = stack.use(await mountEbb({ remote: source.root, options }));
  const handles = stack.use(new HandleProcess());
  const owned = stack.move();
  return { source, mount, handles, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

test('file handles outlive dropped caches, a remount, a killed daemon and its successor', async () => {
  await using all = await scene();
  const { mount, handles } = all;
  const taken = new Map<string, string>();
  for (const name of ['file', 'sub/deep/other', 'sub/deep']) {
    taken.set(name, await handles.take(path.join(mount.path, name)));
  }
  const check = async (when: string): Promise<void> => {
    for (const [name, handle] of taken) {
      const expected = name === 'sub/deep' ? handle : `this is ${name}`;
      assert.deepEqual(
        await handles.open(mount.path, handle),
        { value: expected },
        `${name}, ${when}`,
      );
    }
  };
  await check('at once');
  dropNames();
  await check('after dropped caches');
  await mount.unmount();
  await mount.remount();
  await check('after a remount');
  await mount.kill();
  await check('of a successor');
  await mount.killAll();
  await mount.detach();
  await mount.remount();
  await check('after kill -9 of all');
  const found = await handles.take(path.join(mount.path, 'file'));
  assert.equal(found, taken.get('file'), 'the handle itself is the same');
});

/**
 * Takes handles with AT_HANDLE_CONNECTABLE (Linux 6.13), of a file together with its directory, and says which names
 * they have when they are opened by the handle.
 */
const connects = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
for place, _, _ in os.walk('.'):
    for entry in os.scandir(place):
        assert entry.inode() == os.lstat(entry.path).st_ino, entry.path
class Handle(ctypes.Structure):
    _fields_ = [('size', ctypes.c_uint), ('kind', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def take(name):
    handle = Handle(128, 0)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, name.encode(), ctypes.byref(handle), ctypes.byref(mount), 2) != 0:
        raise OSError(ctypes.get_errno(), 'name_to_handle_at')
    return handle
handles = [take(name) for name in sys.argv[2:]]
root = os.open('.', os.O_RDONLY)
with open('/proc/sys/vm/drop_caches', 'w') as caches: caches.write('2')
for handle in handles:
    opened = libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY)
    if opened < 0: raise OSError(ctypes.get_errno(), 'open_by_handle_at')
    print(os.path.relpath(os.readlink(f'/proc/self/fd/{opened}'), sys.argv[1]))
`;

test('what is opened by a handle gets its name back: listings and facts have the same inode numbers', async () => {
  await using all = await scene();
  const names = ['sub/deep/other', 'sub/deep', 'file'];
  const { stdout } = await runOk('python3', ['-c', connects, all.mount.path, ...names]);
  assert.deepEqual(stdout.toString().trim().split('\n'), names);
});

test('the handle of a file that changed, moved or went is ESTALE; who has it open keeps its bytes', async () => {
  await using all = await scene(['--ttl', '0']);
  const { source, mount, handles } = all;
  const file = path.join(mount.path, 'file');
  const old = await handles.take(file);
  assert.deepEqual(await handles.hold(file), { value: 'this is file' });
  source.text('new', 'THIS IS FILE');
  renameSync(source.at('new'), source.at('file'));
  const fresh = await handles.take(file);
  assert.notEqual(fresh, old);
  assert.deepEqual(await handles.open(mount.path, fresh), { value: 'THIS IS FILE' });
  assert.deepEqual(await handles.open(mount.path, old), { code: 'ESTALE' });
  assert.deepEqual(await handles.readHeld(), { value: 'this is file' });
  renameSync(source.at('file'), source.at('moved'));
  const moved = await handles.take(path.join(mount.path, 'moved'));
  assert.deepEqual(await handles.open(mount.path, moved), { value: 'THIS IS FILE' });
  assert.deepEqual(await handles.open(mount.path, fresh), { code: 'ESTALE' });
  rmSync(source.at('moved'));
  assert.deepEqual(await handles.open(mount.path, moved), { code: 'ESTALE' });
});

test(`${cycles} files with a reused inode number on ext4: no old handle or descriptor reaches a new one`, async () => {
  await using disk = await loopFilesystem({ type: 'ext4' });
  await using handles = new HandleProcess();
  await withEbb({ remote: disk.path, options: ['--ttl', '0'] }, async (mount) => {
    const result = await handles.churn({ source: disk.path, view: mount.path, cycles }, longMs);
    assert.deepEqual(result.wrong, [], JSON.stringify(result));
    assert.ok(result.reusedInodes > cycles / 2, `${result.reusedInodes} inode numbers were reused`);
    assert.deepEqual(result.handles, { ESTALE: 2 * cycles });
    const { old = 0, ESTALE = 0, EIO = 0 } = result.descriptors;
    assert.equal(old + ESTALE + EIO, cycles, JSON.stringify(result.descriptors));
  });
});

test(`${forgedCount} forged file handles: the kernel takes none`, async () => {
  await using all = await scene();
  const { mount, handles } = all;
  const real = await handles.take(path.join(mount.path, 'file'));
  await using others = await scene();
  const foreign = await others.handles.take(path.join(others.mount.path, 'file'));
  assert.equal(foreign.slice(0, idEnd), real.slice(0, idEnd), 'both trees gave out the same ids');
  assert.notEqual(foreign, real);
  for (let done = 0; done < forgedCount; done += forgedBatch) {
    const count = Math.min(forgedBatch, forgedCount - done);
    const forged = Array.from({ length: count }, (_, index) => forge(real, foreign, done + index));
    // Else what the kernel has of the file answers for us.
    if (done % (2 * forgedBatch) === 0) dropNames();
    assert.deepEqual(
      await handles.taken(
        mount.path,
        forged.filter((one) => one !== real),
        longMs,
      ),
      [],
    );
  }
  assert.deepEqual(await handles.taken(mount.path, [real]), [real], 'the real one is taken');
  const metrics = await staleHandles(mount);
  assert.ok(metrics > 0, `${metrics} refusals were counted`);
});

/** Hexadecimal digits: 4 bytes of our own for the type, then the node id, then the generation. */
const idEnd = 8 + 16;

function forge(real: string, foreign: string, index: number): string {
  const bytes = Buffer.from(real, 'hex');
  switch (index % 4) {
    case 0:
      // Any generation.
      return real.slice(0, idEnd) + randomHex(4);
    case 1: {
      // One bit.
      const bit = Math.floor(Math.random() * 12 * 8);
      bytes[4 + (bit >> 3)] = (bytes[4 + (bit >> 3)] ?? 0) ^ (1 << (bit & 7));
      return bytes.toString('hex');
    }
    case 2:
      return foreign;
    default:
      // Any node, any generation.
      return real.slice(0, 8) + `00000000${randomHex(1)}000000` + randomHex(4);
  }
}

function randomHex(bytes: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString('hex');
}

async function staleHandles(mount: EbbMount): Promise<number> {
  return (await mount.status()).handlesRefused;
}

test('the handle secret: made where there is none, refused when it is lost, exchanged on demand', async () => {
  await using all = await scene();
  const { mount, handles } = all;
  const secret = path.join(mount.cacheDirectory, 'handle-secret');
  // As an Ebb left it that knew no handles.
  await mount.unmount();
  rmSync(secret);
  const catalog = new DatabaseSync(path.join(mount.cacheDirectory, 'catalog.sqlite'));
  catalog.exec("DELETE FROM settings WHERE name = 'handle-secret'");
  catalog.close();
  await mount.remount();
  const file = path.join(mount.path, 'file');
  const old = await handles.take(file);
  await mount.unmount();
  const right = readFileSync(secret, 'utf8');
  rmSync(secret);
  await assert.rejects(mount.remount(), /handle-secret is missing.*--new-handles/);
  for (const [text, mode, why] of [
    [right, 0o644, /handle-secret is open to others .*chmod 600 .*--new-handles/],
    [right.replace(/"treeId":"./, '"treeId":"'), 0o600, /that of another cache.*--new-handles/],
  ] as const) {
    writeFileSync(secret, text, { mode });
    chmodSync(secret, mode);
    await assert.rejects(mount.remount(), why);
  }
  await mount.remount(['--new-handles']);
  assert.deepEqual(await handles.open(mount.path, old), { code: 'ESTALE' });
  const fresh = await handles.take(file);
  await mount.unmount();
  await mount.remount();
  assert.deepEqual(await handles.open(mount.path, fresh), { value: 'this is file' });
});
