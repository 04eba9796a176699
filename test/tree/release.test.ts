/** Release (invariant I6) on real file systems, with other processes that use the file. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ebbError } from '../../src/base/errors.ts';
import { punchHole } from '../../src/sys/fallocate.ts';
import { contentPath } from '../../src/tree/layout.ts';
import { releaseContent } from '../../src/tree/release.ts';
import type { ReleaseRequest, ReleaseResult } from '../../src/tree/release.ts';
import type { StoredContent } from '../../src/tree/stored-content.ts';
import { openCache, sourceBytes, temporaryDirectory } from './support/cache.ts';
import type { TestCache } from './support/cache.ts';
import { mountImage } from './support/image.ts';
import type { ImageType, MountedDirectory } from './support/image.ts';

const sizeBytes = 65_536;

const request: ReleaseRequest = {
  prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
  isBusy: () => false,
};

function refusalOf(result: ReleaseResult): string | undefined {
  return result.released ? undefined : result.refusal;
}

interface Holder extends AsyncDisposable {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  /** Everything it said after "ready". */
  output(): string;
}

async function hold(action: 'open' | 'map' | 'race', file: string, flag = ''): Promise<Holder> {
  const program = path.join(import.meta.dirname, 'support', 'holding-process.ts');
  const child = spawn(process.execPath, [program, action, file, flag], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  while (!output.startsWith('ready\n')) {
    assert.equal(child.exitCode, null, 'the other process runs');
    await sleep(5);
  }
  return {
    process: child,
    output: () => output.slice('ready\n'.length),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** A process that is stopped in open(2) by the lease on the file when this returns. Blocks until then. */
function openerThatWaits(file: string): ReturnType<typeof spawn> {
  const child = spawn('sh', ['-c', 'exec 3< "$0"; exec sleep 60', file], { stdio: 'ignore' });
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0; tries < 2_000; tries += 1) {
    if (readFileSync(`/proc/${child.pid}/wchan`, 'latin1').includes('lease')) return child;
    Atomics.wait(clock, 0, 0, 5);
  }
  child.kill('SIGKILL');
  throw new Error('the opener did not wait for the lease');
}

async function withFile(
  mount: MountedDirectory,
  body: (cache: TestCache, content: StoredContent, file: string) => Promise<void>,
): Promise<void> {
  const cache = openCache(path.join(mount.path, 'cache'));
  try {
    const content = cache.add(`f${Math.random()}`, sizeBytes);
    await cache.fill(content);
    await cache.store.log.flush();
    await body(cache, content, contentPath(cache.directory, content.id));
  } finally {
    cache.abandon();
  }
}

function assertStillHere(cache: TestCache, content: StoredContent, file: string): void {
  assert.deepEqual(new Uint8Array(readFileSync(file)), sourceBytes(0, sizeBytes));
  assert.equal(content.residency.complete, true);
  assert.equal(cache.catalog.content(content.id)?.complete, true);
}

for (const type of ['ext4', 'xfs', 'btrfs'] satisfies ImageType[]) {
  describe(`release on ${type}`, { concurrency: false }, () => {
    test('frees the blocks; the content can come back', async () => {
      using mount = mountImage(type);
      await withFile(mount, async (cache, content, file) => {
        const before = cache.store.allocatedBytes(content.id);
        const result = await releaseContent(cache.store, content, request);
        assert.equal(result.released, true, JSON.stringify(result));
        assert.ok(result.freedBytes >= sizeBytes && before >= sizeBytes);
        assert.ok(cache.store.allocatedBytes(content.id) <= 4_096);
        assert.equal(content.residency.residentChunks, 0);
        assert.equal(cache.catalog.content(content.id)?.residentBytes, 0);
        assert.equal(readFileSync(file).length, sizeBytes);
        await cache.fill(content);
        await cache.store.log.flush();
        assertStillHere(cache, content, file);
      });
    });

    for (const action of ['open', 'map'] as const) {
      test(`is refused while another process has it ${action === 'map' ? 'mapped' : action}`, async () => {
        using mount = mountImage(type);
        await withFile(mount, async (cache, content, file) => {
          {
            await using _holder = await hold(action, file);
            const result = await releaseContent(cache.store, content, request);
            assert.deepEqual(result, {
              released: false,
              refusal: 'open',
              message: `${content.key} is open or mapped by somebody.`,
              error: undefined,
            });
            assertStillHere(cache, content, file);
          }
          const result = await releaseContent(cache.store, content, request);
          assert.equal(result.released, true, 'granted once nobody uses it');
        });
      });
    }
  });
}

describe('release', { concurrency: false }, () => {
  const refusals: readonly [string, string, Partial<ReleaseRequest>][] = [
    ['busy', 'busy', { isBusy: () => true }],
    ['gone', 'not proven', { prove: () => Promise.reject(ebbError('ENOENT', 'gone')) }],
    ['other', 'not proven', { prove: () => Promise.resolve({ version: 'v2', sizeBytes }) }],
    ['short', 'not proven', { prove: () => Promise.resolve({ version: 'v1', sizeBytes: 1 }) }],
  ];
  for (const [what, refusal, change] of refusals) {
    test(`refuses: ${what}`, async () => {
      using directory = temporaryDirectory();
      await withFile(directory, async (cache, content, file) => {
        const result = await releaseContent(cache.store, content, { ...request, ...change });
        assert.equal(refusalOf(result), refusal);
        assertStillHere(cache, content, file);
      });
    });
  }

  test('refuses pinned content, and content that this process has open', async () => {
    using directory = temporaryDirectory();
    await withFile(directory, async (cache, content, file) => {
      cache.store.setPinned(content, true);
      const pinned = await releaseContent(cache.store, content, request);
      assert.equal(refusalOf(pinned), 'pinned');
      cache.store.setPinned(content, false);
      {
        using _fd = cache.store.openForPassthrough(content.id);
        const open = await releaseContent(cache.store, content, request);
        assert.equal(refusalOf(open), 'open');
      }
      assertStillHere(cache, content, file);
    });
  });

  test('an opener that comes while the record is written wins, and the record says so', async () => {
    using directory = temporaryDirectory();
    await withFile(directory, async (cache, content, file) => {
      let asked = 0;
      let opener: ReturnType<typeof spawn> | undefined;
      const isBusy = (): boolean => {
        asked += 1;
        // The third question is asked under the lease.
        if (asked === 3) opener = openerThatWaits(file);
        return false;
      };
      try {
        const result = await releaseContent(cache.store, content, { ...request, isBusy });
        assert.equal(refusalOf(result), 'opened meanwhile');
        assertStillHere(cache, content, file);
      } finally {
        const exited = opener && once(opener, 'exit');
        opener?.kill('SIGKILL');
        await exited;
      }
      const result = await releaseContent(cache.store, content, request);
      assert.equal(result.released, true);
    });
  });

  test('a reader that races never sees a wrong byte; without the lease it does', async () => {
    using mount = mountImage('ext4');
    await withFile(mount, async (cache, content, file) => {
      const flag = path.join(mount.path, 'flag');
      const say = (state: 'here' | 'gone'): void => writeFileSync(flag, state);
      say('here');
      const race = async (
        release: () => Promise<boolean>,
        enough: (released: number, output: string) => boolean,
      ): Promise<Record<string, number>> => {
        await using holder = await hold('race', file, flag);
        const until = performance.now() + 70_000;
        for (let released = 0; !enough(released, holder.output());) {
          assert.ok(performance.now() < until, `released only ${released} times`);
          if (await release()) {
            released += 1;
            await cache.fill(content);
            say('here');
          }
          await sleep(1);
        }
        const exited = once(holder.process.stdout, 'end');
        holder.process.stdin.end();
        await exited;
        const last = holder.output().trim().split('\n').at(-1) ?? '';
        return JSON.parse(last) as Record<string, number>;
      };
      const safe = await race(
        async () => {
          const original = cache.store.commit.bind(cache.store);
          cache.store.commit = (rows) => {
            original(rows);
            say(content.residency.residentChunks === 0 ? 'gone' : 'here');
          };
          try {
            return (await releaseContent(cache.store, content, request)).released;
          } finally {
            cache.store.commit = original;
          }
        },
        (released) => released >= 20,
      );
      assert.ok((safe['right'] ?? 0) > 10, JSON.stringify(safe));
      assert.equal(safe['wrong'], 0);
      // The control: the same without asking the kernel for the lease.
      const unsafe = await race(
        () => {
          using fd = cache.store.openForRelease(content);
          say('gone');
          punchHole(fd.fd, 0, sizeBytes);
          return sleep(1).then(() => true);
        },
        (_, output) => output.includes('wrong'),
      );
      assert.ok((unsafe['wrong'] ?? 0) > 0, JSON.stringify(unsafe));
    });
  });
});
