/**
 * An attached tree that is exported over NFS: there, clients also write. nfs-ganesha opens files by their handles,
 * which raises the same events as an open by name.
 */
import assert from 'node:assert/strict';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { AttachedTree, treeFilesystems } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { nfsExportName, startGanesha } from '../support/ganesha.ts';
import { dropNames } from '../support/kernel-caches.ts';
import { Nfs4Client, NfsStatus } from '../support/nfs4-client.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const bigBytes = 3_000_000;
const readBytes = 65_536;

describe('over NFS', { concurrency: treeFilesystems.length }, () => {
  for (const type of treeFilesystems) {
    test(`${type} over NFS: cold files are read and written; handles outlive servers, or are ESTALE`, async () => {
      await using directory = await temporaryDirectory('nfs-tree');
      const source = new CorpusWriter(path.join(directory.path, 'source'));
      source.bytes('sub/big', bigBytes);
      source.bytes('later', bigBytes);
      source.text('edited', 'of the remote\n');
      const big = readFileSync(source.at('sub/big'));
      const later = readFileSync(source.at('later'));
      await using tree = await AttachedTree.attach({ type, remote: source.root });
      let server = await startGanesha(tree.path);
      const { port } = server;
      try {
        const url = (name: string): string =>
          `nfs://127.0.0.1/${nfsExportName}/${name}?version=4&nfsport=${port}`;
        const listed = await runOk('nfs-ls', ['-R', url('')]);
        for (const name of ['big', 'later', 'edited'])
          assert.match(listed.stdout.toString(), new RegExp(`${name}$`, 'm'));
        const read = await runOk('nfs-cat', [url('sub/big')], { timeoutMs: 60_000 });
        assert.ok(read.stdout.equals(big), 'the cold file came whole');

        const client = new Nfs4Client(port);
        const edited = await client.handleOf([nfsExportName, 'edited']);
        assert.equal(await client.write(edited, Buffer.from('OF')), NfsStatus.ok);
        const own = path.join(directory.path, 'own');
        writeFileSync(own, 'written over the wire\n');
        await runOk('nfs-cp', [own, url('new')]);
        for (const [name, text] of [
          ['edited', 'OF the remote\n'],
          ['new', 'written over the wire\n'],
        ] as const) {
          const local = await runOk('cat', [path.join(tree.path, name)]);
          assert.equal(local.stdout.toString(), text, name);
        }

        const handle = await client.handleOf([nfsExportName, 'later']);
        const gone = await client.handleOf([nfsExportName, 'new']);
        const reads = async (when: string): Promise<void> => {
          const bytes = await client.read(handle);
          assert.ok(typeof bytes !== 'number', `${when}: ${String(bytes)}`);
          assert.ok(later.subarray(0, readBytes).equals(bytes), when);
        };
        renameSync(path.join(tree.path, 'later'), path.join(tree.path, 'sub', 'renamed'));
        writeFileSync(path.join(tree.path, 'later'), 'another file under the old name\n');
        await tree.ebbOk(['daemon', 'restart', tree.path], { timeoutMs: 120_000 });
        await reads('a cold file, renamed, by a handle of before, after a restart of the daemon');
        await server.stop();
        rmSync(path.join(tree.path, 'new'));
        await tree.ebbOk(['release', path.join(tree.path, 'sub', 'renamed')]);
        dropNames();
        server = await startGanesha(tree.path, port);
        await reads('cold again, after a restart of the NFS server, with nothing in the caches');
        assert.equal(String(await client.read(edited)), 'OF the remote\n');
        assert.equal(await client.read(gone), NfsStatus.stale);
      } finally {
        await server.stop();
      }
    });
  }
});
