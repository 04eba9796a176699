/** The kernel opens a file for each event: a lease that is in the way of that keeps nobody else waiting. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';

const MiB = 1024 * 1024;

test('a write lease that a program does not give up is felt by who opens that file, and by nobody else', async () => {
  await using scene = await nativeScene('xfs');
  for (const name of ['leased', 'f']) scene.add(name, 3 * MiB);
  const program = `
import fcntl, os, signal, sys, time
os.chdir(sys.argv[1])
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open("leased", os.O_RDONLY)
while True:
    try: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK); break
    except BlockingIOError: time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
`;
  const holder = spawn('python3', ['-c', program, scene.path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let said = '';
  holder.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()));
  try {
    await waitFor(() => said === 'ready\n', { what: 'the lease', timeoutMs: 20_000 });
    const opened = await scene.shell('head -c 9 leased');
    assert.match(opened.stderr.toString(), /leased.*Operation not permitted/);
    assert.ok((await scene.shell('head -c 9 f')).stdout.equals(patternBytes(1, 9)));
    // It is still held, and is being broken.
    assert.match(readFileSync('/proc/locks', 'utf8'), new RegExp(`LEASE .* ${holder.pid} `));
  } finally {
    holder.stdin.end();
    await once(holder, 'exit');
  }
  assert.ok((await scene.shell('head -c 9 leased')).stdout.equals(patternBytes(1, 9)));
});
