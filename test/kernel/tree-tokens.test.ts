/** Handle tokens of a tree: they follow their file, whatever users do to its name, and lead to nothing else. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  globSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { AttachedTree } from '../support/attached-tree.ts';
import { CorpusWriter } from '../support/corpus.ts';
import { processLives } from '../support/processes.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const bigBytes = 3 * 1024 * 1024 + 17;

/** Holds a read lease on a file that another process of it empties: that one waits, past Ebb, until `go` is there. */
const emptiesSlowly = `
import fcntl, os, signal, sys, time
target, waits, go = sys.argv[1:]
signal.signal(signal.SIGIO, lambda *_: open(waits, "w").close())
fd = os.open(target, os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
child = os.fork()
if child == 0:
    os.truncate(target, 0)
    os._exit(0)
while not os.path.exists(go):
    time.sleep(0.02)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`;

test('a token of a tree follows its file over renames, deaths and attaching again; others are refused', async () => {
  await using directory = await temporaryDirectory('tree-tokens');
  const source = new CorpusWriter(path.join(directory.path, 'source'));
  source.text('file', 'by token\n');
  source.text('other', 'another\n');
  source.bytes('sub/big', bigBytes);
  source.bytes('cold', 2 * 1024 * 1024);
  const big = readFileSync(source.at('sub/big'));
  await using tree = await AttachedTree.attach({ type: 'ext4', remote: source.root });
  const at = (name: string): string => path.join(tree.path, name);
  const take = async (name: string): Promise<string> =>
    (await tree.ebbOk(['handle', at(name)])).stdout.toString().trim();
  const bytesOf = async (token: string, ...options: string[]): Promise<Buffer> =>
    (await tree.ebbOk(['open', ...options, token])).stdout;
  const [token, file, other] = [await take('sub/big'), await take('file'), await take('other')];

  // Of what is not here yet; under another name, which another file then gets.
  const part = big.subarray(2_000_000, 2_000_100);
  assert.ok((await bytesOf(token, '--range', '2000000-2000099')).equals(part));
  renameSync(at('sub/big'), at('moved'));
  renameSync(at('other'), at('sub/big'));
  const { pid } = await tree.status();
  process.kill(pid, 'SIGKILL');
  await waitFor(() => !processLives(pid), { what: 'the daemon to be gone' });
  const serves = async (): Promise<boolean> =>
    (await tree.ebb(['status', '--json', tree.path])).code === 0 &&
    (await tree.status()).pid !== pid;
  await waitFor(serves, { what: 'another daemon', timeoutMs: 30_000 });
  assert.ok((await bytesOf(token)).equals(big));
  const stat = JSON.parse((await bytesOf(token, '--stat', '--json')).toString()) as object;
  assert.deepEqual(
    { ...stat, sizeBytes: bigBytes, path: at('moved') },
    stat,
    'what is known of it, under its new name',
  );
  await tree.stop();
  await tree.attach();
  assert.ok((await bytesOf(token, '--range', '0-99')).equals(big.subarray(0, 100)));
  assert.equal((await bytesOf(other)).toString(), 'another\n');

  // What users make of it.
  writeFileSync(at('file'), 'written here\n');
  assert.equal((await bytesOf(file)).toString(), 'written here\n');
  writeFileSync(at('mine'), 'mine');
  const none = await tree.ebb(['handle', at('mine')]);
  assert.match(none.stderr.toString(), /did not come from the remote/);

  const refused = async (bad: string, said: RegExp): Promise<void> => {
    const opened = await tree.ebb(['open', bad]);
    assert.equal(opened.code, 1, bad);
    assert.equal(opened.stdout.length, 0, bad);
    assert.match(opened.stderr.toString(), said);
  };
  // Who is let in to empty it has not done so yet: what lies in it is nobody's content.
  const cold = await take('cold');
  const signal = path.join(directory.path, 'signal');
  const words = ['-c', emptiesSlowly, at('cold'), `${signal}-waits`, `${signal}-go`];
  const emptying = runOk('python3', words, { timeoutMs: 60_000 });
  await waitFor(() => existsSync(`${signal}-waits`), { what: 'the file to be emptied' });
  try {
    await refused(cold, /cold is just being emptied/);
  } finally {
    writeFileSync(`${signal}-go`, '');
    await emptying;
  }
  assert.equal((await bytesOf(cold)).length, 0);

  const forged = `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`;
  await refused(forged, /was not given out here/);
  rmSync(at('file'));
  await refused(file, /The file of this token is gone/);
  await tree.ebbOk(['handle', '--revoke', token]);
  await refused(token, /was revoked/);
  assert.ok((await bytesOf(await take('moved'), '--range', '0-99')).equals(big.subarray(0, 100)));
  assert.equal((await tree.status()).tokensRefused, 3);

  // A secret that others can read: the tree is served, without tokens.
  await tree.stop();
  const secrets = globSync(path.join(tree.stateDirectory, '**/handle-secret'));
  assert.equal(secrets.length, 1);
  chmodSync(secrets[0] ?? '', 0o644);
  await tree.attach();
  assert.equal((await tree.ebb(['handle', at('moved')])).code, 1);
  assert.equal(readFileSync(at('sub/big'), 'utf8'), 'another\n');
  assert.match(await tree.logTail(), /there are no tokens: .* is open to others .*ebb rebuild/);
});
