/** One program that reads thousands of cold files at a time, as nobody forbids: it is throttled, and others are not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import type { RangeSink, ReadOptions, Remote } from '../../src/remote/remote.ts';
import { WrappedRemote } from '../../src/remote/wrapped.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';

/** More than is brought whole, and read by one range. */
const sizeBytes = 2 * 1024 * 1024;
const pageBytes = 4096;
const stormFiles = 40;
const requestsMax = 3;

/** Each read waits until it is let go, in the order in which they came. */
class GatedRemote extends WrappedRemote {
  /** Keys, in the order in which they were asked for. */
  readonly begun: string[] = [];
  most = 0;
  readonly #held: (() => void)[] = [];
  #under = 0;

  get held(): number {
    return this.#held.length;
  }

  letGo(): void {
    this.#held.shift()?.();
  }

  override list: Remote['list'] = (key, options) => this.inner.list(key, options);
  override stat: Remote['stat'] = (key, options) => this.inner.stat(key, options);

  override async read(key: string, sink: RangeSink, options: ReadOptions): Promise<void> {
    this.begun.push(key);
    this.#under += 1;
    this.most = Math.max(this.most, this.#under);
    await new Promise<void>((go) => void this.#held.push(go));
    try {
      await this.inner.read(key, sink, options);
    } finally {
      this.#under -= 1;
    }
  }
}

/** One process with a thread for each file; prints the sums of what they read, in the order of the words. */
const readAtOnce = `python3 -c '
import os, sys, threading, zlib
sums = {}
def read(name):
    sums[name] = zlib.crc32(os.pread(os.open(name, os.O_RDONLY), ${pageBytes}, 0))
threads = [threading.Thread(target=read, args=(name,)) for name in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*(sums[name] for name in sys.argv[1:]))' `;

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: who reads ${stormFiles} files at a time is throttled, and who comes then is next`, async () => {
    let remote: GatedRemote | undefined;
    await using scene = await nativeScene(type, {
      limits: { parallelRequestsMax: requestsMax, readAheadMaxBytes: 0 },
      around: (inner) => (remote = new GatedRemote(inner)),
    });
    assert.ok(remote !== undefined);
    const gated = remote;
    const names = Array.from({ length: stormFiles }, (_unused, index) => `s${index}`);
    for (const [index, name] of names.entries()) scene.add(name, sizeBytes, { seed: index });
    scene.add('other', sizeBytes, { seed: stormFiles });
    const storm = scene.shellOk(readAtOnce + names.join(' '));
    const waits = async (questions: number): Promise<void> => {
      await waitFor(() => scene.server.counters().pending === questions, { what: 'questions' });
    };
    await waits(stormFiles);
    await waitFor(() => gated.held >= requestsMax, { what: 'as many requests as may be' });
    const begun = gated.begun.length;
    const other = scene.shellOk(readAtOnce + 'other');
    await waits(stormFiles + 1);
    assert.equal(gated.begun.length, begun, 'he waits for a request that is free');
    for (let left = stormFiles + 1; left > 0; left -= 1) {
      await waitFor(() => gated.held > 0, { what: 'the next request' });
      gated.letGo();
    }
    const sums = (seeds: readonly number[]): string =>
      seeds.map((seed) => crc32(patternBytes(seed, pageBytes))).join(' ');
    assert.equal((await other).trim(), sums([stormFiles]));
    assert.equal((await storm).trim(), sums([...names.keys()]));
    assert.equal(gated.most, requestsMax);
    const turn = gated.begun.indexOf('other') - begun;
    assert.ok(turn <= 1, `${turn} requests of the storm went before his`);
    assert.deepEqual(scene.problems, []);
  });
}
