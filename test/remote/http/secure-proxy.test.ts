/** A proxy that is spoken to by TLS: whose certificate is believed, and who sees what. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import type { HttpRemoteOptions } from '../../../src/remote/http/options.ts';
import { makeCertificates } from '../../support/certificates.ts';
import { temporaryTree } from '../../support/hostile-tree.ts';
import { startNginx } from '../../support/servers.ts';
import { readInto } from './collect.ts';
import { answer, scriptedOrigin } from './scripted-origin.ts';
import type { ScriptedRequest } from './scripted-origin.ts';

/** Ways through as a proxy gives them: a tunnel, or an answer of its own. */
function passOn({ method, path: target, socket }: ScriptedRequest): Uint8Array | undefined {
  if (method !== 'CONNECT') return answer(200, { ETag: '"1"' }, 'by the proxy');
  socket.removeAllListeners('data');
  const [host = '', port = ''] = target.split(':');
  const onward = connect(Number(port), host);
  socket.write('HTTP/1.1 200 OK\r\n\r\n');
  socket.pipe(onward).pipe(socket);
  onward.on('error', () => socket.destroy());
  socket.on('close', () => onward.destroy());
  return undefined;
}

async function readFile(options: HttpRemoteOptions): Promise<string> {
  const remote = await openHttpRemote(options);
  try {
    return Buffer.from((await readInto(remote, 'file')).bytes()).toString();
  } finally {
    await remote.close();
  }
}

test('--ca-file vouches for an https proxy, too; --insecure does not speak of it', async () => {
  using directory = temporaryTree();
  writeFileSync(path.join(directory.path, 'file'), 'from afar');
  const tls = makeCertificates(path.join(directory.path, 'tls'));
  const others = makeCertificates(path.join(directory.path, 'others'));
  const pem = {
    cert: readFileSync(tls.certificateFile, 'utf8'),
    key: readFileSync(tls.keyFile, 'utf8'),
  };
  await using proxy = await scriptedOrigin(passOn, pem);
  await using far = await startNginx({ root: directory.path, tls });
  const proxyUrl = proxy.url.replace('127.0.0.1', 'localhost');
  const plain = 'http://origin.invalid/';
  const expected = [
    [plain, 'by the proxy'],
    [far.url, 'from afar'],
  ] as const;
  for (const inEnvironment of [false, true]) {
    const given: { proxy?: string } = inEnvironment ? {} : { proxy: proxyUrl };
    const names = ['http_proxy', 'https_proxy'];
    if (inEnvironment) for (const name of names) process.env[name] = proxyUrl;
    try {
      for (const [url, content] of expected) {
        assert.equal(await readFile({ url, caFile: tls.caFile, ...given }), content);
        const refused = { code: 'EACCES', message: /not signed by an authority/ };
        await assert.rejects(readFile({ url, ...given }), refused);
        await assert.rejects(readFile({ url, caFile: others.caFile, ...given }), refused);
        await assert.rejects(readFile({ url, insecure: true, ...given }), refused);
      }
    } finally {
      for (const name of names) delete process.env[name];
    }
  }
});

test('an https proxy that is given by its address is refused with a sentence, at once', async () => {
  using directory = temporaryTree();
  const tls = makeCertificates(directory.path);
  const pem = {
    cert: readFileSync(tls.certificateFile, 'utf8'),
    key: readFileSync(tls.keyFile, 'utf8'),
  };
  await using proxy = await scriptedOrigin(passOn, pem);
  for (const url of ['http://origin.invalid/', 'https://origin.invalid/']) {
    await assert.rejects(readFile({ url, caFile: tls.caFile, proxy: proxy.url }), {
      code: 'EINVAL',
      message: /by its host name, not by its address/,
      retryable: false,
    });
  }
});
