/** Whom a remote trusts: --ca-file adds to the system's authorities, it does not replace them. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { makeCertificates } from '../../support/certificates.ts';
import { temporaryTree } from '../../support/hostile-tree.ts';
import { run } from '../../support/run.ts';
import { startNginx } from '../../support/servers.ts';

const module = path.join(import.meta.dirname, '../../../src/remote/http/http-remote.ts');
/** A process of its own: Node reads its authorities once. */
const script = `
  const { openHttpRemote } = await import(process.argv[1]);
  const [url, caFile] = process.argv.slice(2);
  const remote = await openHttpRemote({ url, ...(caFile === undefined ? {} : { caFile }) });
  for await (const batch of remote.list('', { signal: AbortSignal.timeout(10_000) })) void batch;
  await remote.close();`;

test('authorities of the system count besides those of --ca-file', async () => {
  using directory = temporaryTree();
  const ours = makeCertificates(path.join(directory.path, 'ours'));
  const others = makeCertificates(path.join(directory.path, 'others'));
  await using server = await startNginx({ root: directory.path, tls: ours });
  const list = async (env: Record<string, string>, ...more: string[]): Promise<string> => {
    const words = ['--use-system-ca', '--input-type=module', '-e', script, module, server.url];
    const { code, stderr } = await run(process.execPath, [...words, ...more], { env });
    return code === 0 ? 'trusted' : stderr.toString();
  };
  const system = { SSL_CERT_FILE: ours.caFile };
  assert.match(await list({}, others.caFile), /not signed by an authority that this system trusts/);
  assert.equal(await list(system), 'trusted');
  assert.equal(await list(system, others.caFile), 'trusted');
  assert.equal(await list({ NODE_EXTRA_CA_CERTS: ours.caFile }, others.caFile), 'trusted');
  assert.equal(await list({}, ours.caFile), 'trusted');
  assert.match(await list({}, ours.keyFile), /certificates cannot be used|not signed/);
});
