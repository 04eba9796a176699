/** A mount that is exported over NFS, from end to end: nfs-ganesha, libnfs, and a client that keeps its handles. */
import assert from 'node:assert/strict';
import { renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { CorpusWriter } from '../support/corpus.ts';
import { nfsExportName, startGanesha } from '../support/ganesha.ts';
import { dropNames } from '../support/kernel-caches.ts';
import { mountEbb } from '../support/mount.ts';
import { Nfs4Client, NfsStatus } from '../support/nfs4-client.ts';
import { run, runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const bigLines = 200_000;
/** Of a handle of nfs-ganesha 4: version, flags, export, length, type, device; then the kernel's handle. */
const ganeshaPartBytes = 14;

/**
 * nfs-ganesha puts the mount's device number into its handles, which is another one after a remount, and cannot be told
 * otherwise (knfsd can: fsid=N). What Ebb answers for is the rest.
 */
function onDeviceOf(fresh: Uint8Array, handle: Uint8Array): Buffer {
  return Buffer.concat([fresh.subarray(0, ganeshaPartBytes), handle.subarray(ganeshaPartBytes)]);
}

test('a mount over NFS: listed, read, never written; handles outlive both servers, or are ESTALE', async () => {
  await using directory = await temporaryDirectory('nfs');
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  const big = Array.from({ length: bigLines }, (_, line) => `line ${line}\n`).join('');
  source.text('file', 'over the wire\n');
  source.text('sub/deep/big', big);
  source.text('gone', 'for a while\n');
  await using mount = await mountEbb({ remote: source.root, options: ['--ttl', '0'] });
  let server = await startGanesha(mount.path);
  const { port } = server;
  try {
    const url = (name: string): string =>
      `nfs://127.0.0.1/${nfsExportName}${name}?version=4&nfsport=${port}`;
    const listed = await runOk('nfs-ls', ['-R', url('/')]);
    for (const name of ['file', 'big'])
      assert.match(listed.stdout.toString(), new RegExp(`${name}$`, 'm'));
    const read = await runOk('nfs-cat', [url('/sub/deep/big')], { timeoutMs: 60_000 });
    assert.ok(read.stdout.equals(Buffer.from(big)), 'the big file came whole');
    const written = await run('nfs-cp', [source.at('file'), url('/copy')]);
    assert.notEqual(written.code, 0);

    const client = new Nfs4Client(port);
    const root = await client.handleOf([nfsExportName]);
    let handle = await client.handleOf([nfsExportName, 'file']);
    let bigHandle = await client.handleOf([nfsExportName, 'sub', 'deep', 'big']);
    assert.equal(await client.makeDirectory(root, 'new'), NfsStatus.readOnly);
    const readsAll = async (when: string): Promise<void> => {
      assert.equal(String(await client.read(handle)), 'over the wire\n', when);
      assert.equal(String(await client.read(bigHandle)), big.slice(0, 65_536), when);
    };
    await readsAll('at once');
    await mount.kill();
    await readsAll('after the death of the daemon');
    await server.stop();
    dropNames();
    server = await startGanesha(mount.path, port);
    await readsAll('after a restart of the NFS server, with nothing in the caches of the kernel');
    await server.stop();
    await mount.unmount();
    await mount.remount();
    server = await startGanesha(mount.path, port);
    const newRoot = await client.handleOf([nfsExportName]);
    handle = onDeviceOf(newRoot, handle);
    bigHandle = onDeviceOf(newRoot, bigHandle);
    await readsAll('after a remount');

    const gone = await client.handleOf([nfsExportName, 'gone']);
    rmSync(source.at('gone'));
    source.text('other', 'OVER THE WIRE\n');
    renameSync(source.at('other'), source.at('file'));
    const fresh = await client.handleOf([nfsExportName, 'file']);
    assert.equal(String(await client.read(fresh)), 'OVER THE WIRE\n');
    // The server has the old file open; when it opens it anew, there is none.
    assert.equal(String(await client.read(handle)), 'over the wire\n');
    await server.stop();
    server = await startGanesha(mount.path, port);
    assert.equal(await client.read(handle), NfsStatus.stale, 'replaced');
    assert.equal(await client.read(gone), NfsStatus.stale, 'removed');
    assert.equal(String(await client.read(fresh)), 'OVER THE WIRE\n');
  } finally {
    await server.stop();
  }
});
