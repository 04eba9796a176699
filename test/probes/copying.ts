/** Tools that copy. They ask for holes first, and what a mount hides from them is lost without a word. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { truncateSync } from 'node:fs';
import path from 'node:path';
import { writeMixedFiles } from '../support/corpus.ts';
import { assertCopies, assertSameFile, assertSameFiles, shell, shellOk } from './probe.ts';
import type { Probe, ProbeContext, RemoteTraits } from './probe.ts';

/** A probe whose script copies the mount's directory (its working directory) to `$SCRATCH/out`. */
function copyProbe(name: string, script: string | ((traits: RemoteTraits) => string)): Probe {
  return {
    name,
    sees: 'content',
    prepare: (writer) => writeMixedFiles(writer),
    run: (context) =>
      assertCopies(context, typeof script === 'string' ? script : script(context.traits)),
  };
}

const cpModes: readonly (readonly [string, string])[] = [
  ['cp-default', '-r'],
  ['cp-sparse-always', '-r --sparse=always'],
  ['cp-sparse-never', '-r --sparse=never'],
  ['cp-sparse-auto', '-r --sparse=auto'],
  ['cp-reflink-auto', '-r --reflink=auto'],
  ['cp-reflink-never', '-r --reflink=never'],
  ['cp-archive', '-a'],
];

/** GNU tar ends with 1 when a file's time of change moved while it was read; the archive is right all the same. */
const tarWith =
  (mode: string) =>
  (traits: RemoteTraits): string =>
    `set -e; tar ${mode} -f "$SCRATCH/t.tar" . ${traits.stableChangeTime ? '' : '|| [ $? = 1 ]'}
     tar -x -f "$SCRATCH/t.tar" -C "$SCRATCH/out"`;
const bsdTar = `command -v bsdtar >/dev/null || { cp -r . "$SCRATCH/out"; exit 0; }
  bsdtar -c -f - . | bsdtar -x -f - -C "$SCRATCH/out"`;
const eachFile = (command: string): string =>
  `set -e; for f in *; do ${command} || { echo "$f" >&2; exit 1; }; done`;
const ddSparse = `dd if="$f" of="$SCRATCH/out/$f" bs=64k conv=sparse status=none &&
  truncate -s "$(stat -c %s "$f")" "$SCRATCH/out/$f"`;
const nodeCopy = `"${process.execPath}" -e '
  const fs = require("fs");
  for (const name of fs.readdirSync(".")) fs.copyFileSync(name, process.env.SCRATCH + "/out/" + name);'`;

/** mv out of a read-only mount copies, then cannot delete: it must say so, and nothing may be lost or half there. */
const moveOut: Probe = {
  name: 'mv-out',
  sees: 'none',
  when: (traits) => traits.readOnly,
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    for (const name of readdirSync(context.source)) {
      const result = await shell(context, context.mount, `mv -- '${name}' "$SCRATCH/"`);
      assert.notEqual(result.code, 0, `mv ${name} claims to have removed a file from the remote`);
      const moved = path.join(context.scratch, name);
      if (existsSync(moved)) assertSameFile(moved, path.join(context.source, name));
      assert.ok(existsSync(path.join(context.source, name)), `${name} is gone from the remote`);
    }
    await shellOk(context, context.mount, 'cmp noise-5m.bin "$SOURCE/noise-5m.bin"');
  },
};

/** A second run must find nothing to do (stable times), and --checksum must notice equal-looking wrong files. */
const rsyncTwice: Probe = {
  name: 'rsync',
  sees: 'content',
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    await assertCopies(context, 'rsync -rt ./ "$SCRATCH/out/"');
    const again = await shellOk(
      context,
      context.mount,
      'rsync -rti ./ "$SCRATCH/out/" | grep "^>f"; :',
    );
    assert.equal(again.stdout.toString(), '', 'rsync found files changed in its second run');
  },
};

const rsyncChecksum: Probe = {
  name: 'rsync-checksum',
  sees: 'content',
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    makeLookAlikes(context);
    await shellOk(context, context.mount, 'rsync -rt --checksum ./ "$SCRATCH/out/"');
    assertSameFiles(path.join(context.scratch, 'out'), context.source);
  },
};

/** Files of the right name, size and time, all zeros. */
function makeLookAlikes(context: ProbeContext): void {
  const out = path.join(context.scratch, 'out');
  mkdirSync(out, { recursive: true });
  for (const name of readdirSync(context.source)) {
    const original = path.join(context.source, name);
    const copy = path.join(out, name);
    copyFileSync(original, copy);
    const { size, mtimeMs } = statSync(original);
    truncateSync(copy, 0);
    truncateSync(copy, size);
    utimesSync(copy, mtimeMs / 1000, mtimeMs / 1000);
  }
}

/** All probes of copying tools. */
export const copyingProbes: readonly Probe[] = [
  ...cpModes.map(([name, mode]) => copyProbe(name, `cp ${mode} . "$SCRATCH/out/"`)),
  copyProbe('install', eachFile('install -m 644 "$f" "$SCRATCH/out/$f"')),
  copyProbe('tar', tarWith('-c')),
  copyProbe('tar-sparse', tarWith('-c -S')),
  copyProbe('bsdtar', bsdTar),
  copyProbe('rsync-sparse', 'rsync -rtS ./ "$SCRATCH/out/"'),
  copyProbe('dd-sparse', eachFile(`{ ${ddSparse}; }`)),
  copyProbe('dd-odd', eachFile('dd if="$f" of="$SCRATCH/out/$f" bs=100001 status=none')),
  copyProbe('cat', eachFile('cat "$f" > "$SCRATCH/out/$f"')),
  copyProbe('node-copy-file', nodeCopy),
  moveOut,
  rsyncTwice,
  rsyncChecksum,
];
