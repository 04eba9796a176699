/** Datagrams to a service manager: what another program receives. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { createMemoryFile } from '../../src/sys/memory-file.ts';
import { notify } from '../../src/sys/notify-socket.ts';
import { writeSync } from 'node:fs';
import { killAtExit } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Prints what it received: the text, and what the descriptor that came with it holds. */
const receiver = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
a = sys.argv[1]
s.bind(chr(0) + a[1:] if a[0] == '@' else a)
print('bound', flush=True)
text, fds, _, _ = socket.recv_fds(s, 4096, 4)
print(text.decode(), [os.pread(fd, 100, 0).decode() for fd in fds])
`;

for (const kind of ['a path', 'an abstract name'] as const) {
  test(`text and descriptor arrive at ${kind}`, { timeout: 60_000 }, async () => {
    await using directory = await temporaryDirectory('notify');
    const name = `ebb-${randomUUID()}`;
    const address = kind === 'a path' ? path.join(directory.path, name) : `@${name}`;
    const child = spawn('python3', ['-c', receiver, address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    killAtExit(child);
    await once(child.stdout, 'readable');
    using memory = createMemoryFile('ebb-test');
    writeSync(memory.fd, 'what it holds');
    assert.ok(notify(address, 'FDSTORE=1\nFDNAME=x', memory.fd));
    assert.equal(await text(child.stdout), "bound\nFDSTORE=1\nFDNAME=x ['what it holds']\n");
  });
}

test('nobody listens, or the address is none: an error', () => {
  assert.throws(() => notify('/nonexistent/notify', 'READY=1'), { code: 'ENOENT' });
  assert.throws(() => notify(`@ebb-${randomUUID()}`, 'READY=1'), { code: 'ECONNREFUSED' });
  for (const address of ['', 'notify', `/${'x'.repeat(107)}`]) {
    assert.throws(() => notify(address, 'READY=1'), { code: 'EINVAL' }, address);
  }
});
