/** Throw-away certificates for TLS tests: an authority, a server certificate for loopback, a client certificate. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { findProgram } from './server-process.ts';

export interface Certificates {
  readonly caFile: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly clientCertificateFile: string;
  readonly clientKeyFile: string;
}

/** Makes them in `directory` (created); valid for a day, for `localhost` and 127.0.0.1. */
export function makeCertificates(directory: string): Certificates {
  mkdirSync(directory, { recursive: true });
  const file = (name: string): string => path.join(directory, name);
  const openssl = findProgram('openssl', 'openssl');
  const run = (...args: string[]): void => {
    execFileSync(openssl, args, { stdio: 'pipe', cwd: directory });
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = ['-subj', '/CN=Ebb test authority', '-days', '1'];
  run('req', '-x509', ...newKey, ...authority, '-keyout', 'ca.key', '-out', 'ca.pem');
  writeFileSync(file('server.ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  writeFileSync(file('client.ext'), 'extendedKeyUsage=clientAuth\n');
  for (const role of ['server', 'client']) {
    const request = ['-subj', `/CN=ebb-${role}`, '-keyout', `${role}.key`, '-out', `${role}.csr`];
    run('req', ...newKey, ...request);
    const signer = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1'];
    const output = ['-extfile', `${role}.ext`, '-out', `${role}.pem`];
    run('x509', '-req', '-in', `${role}.csr`, ...signer, ...output);
  }
  return {
    caFile: file('ca.pem'),
    certificateFile: file('server.pem'),
    keyFile: file('server.key'),
    clientCertificateFile: file('client.pem'),
    clientKeyFile: file('client.key'),
  };
}
