/** Release (invariant I6) on real file systems, with other processes that use the file. */
import assert from 'node:assert/strict';
import type { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ebbError } from '../../src/base/errors.ts';
import { punchHole } from '../../src/sys/fallocate.ts';
import { contentPath } from '../../src/tree/layout.ts';
import { releaseContent } from '../../src/tree/release-content.ts';
import type { ReleaseRequest, ReleaseResult } from '../../src/tree/release.ts';
import type { StoredContent } from '../../src/tree/stored-content.ts';
import { openCache, sourceBytes, temporaryDirectory } from './support/cache.ts';
import type { TestCache } from './support/cache.ts';
import { hold, openerThatWaits, race } from './support/holding.ts';
import { mountImage } from './support/image.ts';
import type { ImageType, MountedDirectory } from './support/image.ts';

const sizeBytes = 65_536;

const request: ReleaseRequest<StoredContent> = {
  prove: ({ version, sizeBytes }) => Promise.resolve({ version, sizeBytes }),
  isBusy: () => false,
};

function refusalOf(result: ReleaseResult): string | undefined {
  return result.released ? undefined : result.refusal;
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
  const refusals: readonly [string, string, Partial<ReleaseRequest<StoredContent>>][] = [
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
      const recalled = async (): Promise<void> => {
        await cache.fill(content);
        say('here');
      };
      const safe = await race(
        { file, flag },
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
        recalled,
        (released) => released >= 20,
      );
      assert.ok((safe['right'] ?? 0) > 10, JSON.stringify(safe));
      assert.equal(safe['wrong'], 0);
      // The control: the same without asking the kernel for the lease.
      const unsafe = await race(
        { file, flag },
        () => {
          using fd = cache.store.openForRelease(content);
          say('gone');
          punchHole(fd.fd, 0, sizeBytes);
          return sleep(1).then(() => true);
        },
        recalled,
        (_, output) => output.includes('wrong'),
      );
      assert.ok((unsafe['wrong'] ?? 0) > 0, JSON.stringify(unsafe));
    });
  });
});
