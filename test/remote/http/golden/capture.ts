/**
 * Captures the golden listing pages from real servers: `node test/remote/http/golden/capture.ts`. Run it
 * when a new server version is to be supported; the tests over the pages need no server.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { fillHostileTree, temporaryTree } from '../../../support/hostile-tree.ts';
import {
  startApache,
  startCaddy,
  startLighttpd,
  startNginx,
  startPythonServer,
} from '../../../support/servers.ts';
import type { RunningServer } from '../../../support/servers.ts';

using tree = temporaryTree();
fillHostileTree(tree.path, { raw: true });
const root = tree.path;
const environment = { TZ: 'Europe/Berlin' };

/** Stored as `FAMILY.DIRECTORY.EXTENSION`. */
const captures: readonly [string, string, () => Promise<RunningServer>][] = [
  ['nginx', 'html', () => startNginx({ root })],
  ['nginx-rounded', 'html', () => startNginx({ root, exactSize: false, localtime: true, environment })],
  ['nginx-json', 'json', () => startNginx({ root, autoindex: 'json' })],
  ['apache-plain', 'html', () => startApache({ root, index: 'plain' })],
  ['apache-fancy', 'html', () => startApache({ root, index: 'fancy', environment })],
  ['apache-table', 'html', () => startApache({ root, index: 'table', indexOptions: 'XHTML' })],
  ['lighttpd', 'html', () => startLighttpd({ root })],
  ['caddy', 'html', () => startCaddy({ root })],
  ['caddy-json', 'json', () => startCaddy({ root })],
  ['python', 'html', () => startPythonServer({ root })],
];

for (const [family, extension, start] of captures) {
  await using server = await start();
  for (const directory of ['', 'hostile/', 'empty/']) {
    const accept = family === 'caddy-json' ? 'application/json' : 'text/html';
    const answer = await fetch(server.url + directory, { headers: { accept } });
    const name = `${family}.${directory === '' ? 'root' : directory.slice(0, -1)}.${extension}`;
    writeFileSync(path.join(import.meta.dirname, name), await answer.bytes());
    console.log(name, answer.status, answer.headers.get('content-type'), answer.headers.get('server'));
  }
}
