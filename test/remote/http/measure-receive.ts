/**
 * What receiving costs, without writing: 1 GiB from nginx on loopback in 8 MiB ranges, by either transport. Prints
 * the median of five rounds, after one to warm up. Not a test:
 *
 *     node test/remote/http/measure-receive.ts [parallel=4] [http|https]
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';

import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { temporaryTree } from '../../support/hostile-tree.ts';
import { makeCertificates, startNginx } from '../../support/servers.ts';
import { never } from './collect.ts';

const sizeBytes = 1024 * 1024 * 1024;
const rangeBytes = 8 * 1024 * 1024;
const memoryBytes = 1024 * 1024;
const rounds = 5;

interface Round {
  readonly megabytesPerSecond: number;
  readonly cpuSecondsPerGib: number;
  readonly userSecondsPerGib: number;
}

async function measure(url: string, fastLane: boolean, parallel: number): Promise<Round[]> {
  const remote = await openHttpRemote({ url, fastLane, insecure: true });
  const { version } = await remote.stat('big', { signal: never });
  const results: Round[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const cpu = process.cpuUsage();
    const startMs = performance.now();
    let nextBytes = 0;
    let receivedBytes = 0;
    const receive = async (): Promise<void> => {
      const memory = new Uint8Array(memoryBytes);
      while (nextBytes < sizeBytes) {
        const offsetBytes = nextBytes;
        nextBytes += rangeBytes;
        let at = 0;
        const sink = {
          head: () => undefined,
          buffer: () => memory.subarray(at),
          filled(countBytes: number): void {
            receivedBytes += countBytes;
            at = (at + countBytes) % memoryBytes;
          },
        };
        await remote.read('big', sink, {
          offsetBytes,
          lengthBytes: rangeBytes,
          version,
          signal: never,
        });
      }
    };
    await Promise.all(Array.from({ length: parallel }, receive));
    if (receivedBytes !== sizeBytes) throw new Error(`${receivedBytes} bytes`);
    const seconds = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    if (round > 0) {
      results.push({
        megabytesPerSecond: Math.round(sizeBytes / 1e6 / seconds),
        cpuSecondsPerGib: (user + system) / 1e6,
        userSecondsPerGib: user / 1e6,
      });
    }
  }
  await remote.close();
  return results;
}

function median(results: readonly Round[], of: keyof Round): number {
  const values = results.map((round) => round[of]).sort((a, b) => a - b);
  return Number((values[values.length >> 1] ?? 0).toFixed(3));
}

const parallel = Number(process.argv[2] ?? '4');
const secure = process.argv[3] === 'https';
using tree = temporaryTree();
using keys = temporaryTree();
const file = path.join(tree.path, 'big');
execFileSync('sh', [
  '-c',
  `head -c ${sizeBytes} /dev/urandom > ${file} && cat ${file} > /dev/null`,
]);
await using server = await startNginx({
  root: tree.path,
  ...(secure ? { tls: makeCertificates(keys.path) } : {}),
});
for (const fastLane of [false, true]) {
  const results = await measure(server.url, fastLane, parallel);
  console.log(
    `${secure ? 'https' : 'http'}, ${parallel} parallel, ${fastLane ? 'lane' : 'undici'}:`,
    `${median(results, 'megabytesPerSecond')} MB/s,`,
    `${median(results, 'cpuSecondsPerGib')} CPU s/GiB`,
    `(${median(results, 'userSecondsPerGib')} user)`,
  );
}
