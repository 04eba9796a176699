/**
 * An image in a user namespace: who has no rights outside is root there, and mounts it without fusermount3. Needs root
 * to become somebody else.
 */
import assert from 'node:assert/strict';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { assertSame, filledImage, manifest, withoutFacts } from '../image/fixture.ts';
import type { ManifestLine } from '../image/fixture.ts';
import { openFuseToEverybody } from '../support/fuse-device.ts';
import { loopMount } from '../support/loop-mount.ts';
import { runOk } from '../support/run.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const nobody = { uid: 65_534, gid: 65_534 };
const launcher = path.join(import.meta.dirname, '../../ebb');
const manifestScript = path.join(import.meta.dirname, '../image/manifest.ts');
/** With a process namespace: nothing of it stays, whatever happens. */
const namespaces = '--user --map-root-user --mount --pid --fork --mount-proc --kill-child'.split(
  ' ',
);
const script = `
set -e
"$1" image mount --json "$2" "$3" > "$4"
"$5" "$6" "$3"
"$1" umount "$3" >&2
! mountpoint -q "$3"
`;
/** Owners and ACLs name users that are not there. */
const without = ['owner', 'xattrs'];

test('who is root in a user namespace alone mounts an image there, without fusermount3', async () => {
  await openFuseToEverybody();
  await using image = await filledImage();
  await chmod(image.directory.path, 0o755);
  await chmod(image.path, 0o644);
  let expected: ManifestLine[];
  {
    await using kernel = await loopMount(image.path, { mountOptions: 'ro' });
    expected = await manifest(kernel.path, without);
  }
  await using base = await temporaryDirectory('user-namespace');
  const [mountPoint, said] = ['mount', 'said'].map((name) => path.join(base.path, name));
  assert.ok(mountPoint !== undefined && said !== undefined);
  await mkdir(mountPoint);
  await runOk('chown', ['-R', `${nobody.uid}:${nobody.gid}`, base.path]);
  const words = [launcher, image.path, mountPoint, said, process.execPath, manifestScript];
  const { stdout } = await runOk('unshare', [...namespaces, 'sh', '-c', script, 'sh', ...words], {
    ...nobody,
    env: { EBB_RUN_DIR: path.join(base.path, 'run') },
    timeoutMs: 120_000,
  });
  const { notes, mode } = JSON.parse(await readFile(said, 'utf8')) as Record<string, unknown>;
  assert.deepEqual({ notes, mode }, { notes: [], mode: 'fuse' }, 'in a sandbox as good as any');
  const lines = stdout.toString().trimEnd().split('\n');
  // What belongs to users that are not there is nobody's to read.
  const seen = withoutFacts(
    lines.map((line) => JSON.parse(line) as ManifestLine),
    without,
  ).filter(({ error }) => error === undefined);
  assert.ok(seen.length > 1500);
  const names = new Set(seen.map(({ name }) => name));
  assertSame(
    seen,
    expected.filter(({ name }) => names.has(name)),
  );
});
