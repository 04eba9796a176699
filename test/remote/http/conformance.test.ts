/** The contract of remotes, kept over real servers and both transports. */
import { chmod, mkdir } from 'node:fs/promises';

import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import type { Timestamp } from '../../../src/remote/remote.ts';
import { allFeatures, remoteConformance } from '../../conformance/remote.ts';
import type { RemoteFeatures, RemoteFixture } from '../../conformance/remote.ts';
import { originDirectory } from '../../support/remote-fixtures.ts';
import { startApache, startCaddy, startNginx } from '../../support/servers.ts';
import type { OriginOptions, RunningServer } from '../../support/servers.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const httpFeatures: RemoteFeatures = {
  ...allFeatures,
  modes: false,
  symlinks: false,
  nanosecondMtime: false,
  exactListings: false,
  exactVersions: false,
};

function secondsAgo(seconds: number): Timestamp {
  return { seconds: Math.floor(Date.now() / 1000) - seconds, nanoseconds: 0 };
}

type Start = (options: OriginOptions) => Promise<RunningServer>;

async function httpFixture(
  start: Start,
  dotFiles: boolean,
  fastLane: boolean,
): Promise<RemoteFixture> {
  const directory = await temporaryDirectory('http');
  await chmod(directory.path, 0o755);
  const root = `${directory.path}/root`;
  await mkdir(root, { mode: 0o755 });
  const server = await start({ root });
  const remote = await openHttpRemote({ url: server.url, fastLane });
  const origin = originDirectory(root);
  return {
    // Modes are nobody's business over HTTP, and Apache (www-data) could not read some. What is older than two seconds
    // is not waited for (test/remote/http/overwritten.test.ts).
    put: (key, bytes, { mtime = secondsAgo(60) } = {}) => origin.put(key, bytes, { mtime }),
    putDirectory: (key) => origin.putDirectory(key),
    putSparse: (key, sizeBytes, tail) => origin.putSparse(key, sizeBytes, tail),
    remove: (key) => origin.remove(key),
    remote,
    features: { ...httpFeatures, dotFiles },
    async [Symbol.asyncDispose]() {
      await remote.close();
      await server.stop();
      await directory[Symbol.asyncDispose]();
    },
  };
}

const json: Start = (options) => startNginx({ ...options, autoindex: 'json' });

/** For all but the first: the same tests on less. */
const less = { bigFileBytes: 5 * 1024 * 1024 + 11, manyEntries: 1100, randomRanges: 15 };

remoteConformance('http: nginx', () => httpFixture(startNginx, false, true));
remoteConformance('http: nginx, no lane', () => httpFixture(startNginx, false, false), less);
remoteConformance('http: nginx, JSON', () => httpFixture(json, false, true), less);
remoteConformance('http: Apache', () => httpFixture(startApache, true, true), less);
remoteConformance('http: Caddy', () => httpFixture(startCaddy, true, true), less);
