/** What the kernel has of names and facts, when a listing changes more of them than are told one by one. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { CorpusWriter } from '../support/corpus.ts';
import { withEbb } from '../support/mount.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const fileCount = 10_400;
const patient = { timeoutMs: 180_000 };

test('a refresh of a huge directory is seen at once, name by name, whatever the kernel had cached', async () => {
  await using directory = await temporaryDirectory('coherence');
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  const write = (content: string): void => {
    for (let index = 0; index < fileCount; index += 1) source.text(`f${index}`, content);
  };
  write('old');
  await withEbb({ remote: source.root, options: ['--ttl', '1h'] }, async (mount) => {
    // Not by readdir, which would bring new facts along.
    const script = `cd "$0" && seq -f 'f%.0f' 0 ${fileCount - 1} | xargs stat -c %s | sort | uniq -c`;
    const sizes = async (): Promise<string> =>
      (await runOk('/bin/sh', ['-c', script, mount.path], patient)).stdout.toString().trim();
    assert.equal(await sizes(), `${fileCount} 3`);
    write('newer');
    assert.equal(await sizes(), `${fileCount} 3`, 'trusted for the time to live');
    const refreshed = await mount.ebb(['refresh', mount.path], patient);
    assert.equal(refreshed.code, 0, refreshed.stderr.toString());
    assert.equal(await sizes(), `${fileCount} 5`);
  });
});

test('however many names change, what somebody has mounted below the mount stays', async () => {
  await using directory = await temporaryDirectory('coherence-mounted');
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  const write = (content: string): void => {
    for (let index = 0; index < fileCount; index += 1) source.text(`huge/f${index}`, content);
  };
  write('old');
  source.text('sub/file', 'of the remote');
  await withEbb({ remote: source.root, options: ['--ttl', '1h'] }, async (mount) => {
    const [huge, sub] = [path.join(mount.path, 'huge'), path.join(mount.path, 'sub')];
    const script = `ls "$0" | wc -l; mount -t tmpfs none "$1" && echo precious > "$1/file"`;
    const seen = await runOk('/bin/sh', ['-c', script, huge, sub], patient);
    assert.equal(seen.stdout.toString().trim(), String(fileCount));
    write('newer');
    const refreshed = await mount.ebb(['refresh', huge], patient);
    assert.equal(refreshed.code, 0, refreshed.stderr.toString());
    assert.equal((await runOk('cat', [`${sub}/file`])).stdout.toString(), 'precious\n');
    await runOk('umount', [sub]);
    assert.equal((await runOk('cat', [`${sub}/file`])).stdout.toString(), 'of the remote');
  });
});
