/** What stat(2), readdir(3) and refused changes say. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import {
  writeDeep,
  writeFewFiles,
  writeHostileNames,
  writeManySmall,
  writeMixedFiles,
} from '../support/corpus.ts';
import { assertSameOutput, assertSameFiles, shell, shellOk } from './probe.ts';
import type { Probe, ProbeContext } from './probe.ts';
import { run } from '../support/run.ts';

const findSorted = (format: string): string =>
  `find . -printf '${format}\\0' | LC_ALL=C sort -z | tr '\\0' '\\n'`;

const names: Probe = {
  name: 'names',
  sees: 'metadata',
  prepare: (writer, traits) => writeHostileNames(writer, 'names', traits),
  async run(context) {
    await assertSameOutput(context, findSorted('%y %P'));
    await assertSameOutput(context, 'ls -1RAN --show-control-chars');
    await assertSameOutput(context, 'find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat --');
    await assertSameOutput(
      context,
      'find . -type f -exec sh -c \'for f; do [ -r "$f" ] || exit 1; done\' - {} +',
    );
  },
};

/** Sizes and times, cold, then again after the content has been read: recall must not change them. */
const attributes: Probe = {
  name: 'attributes',
  sees: 'metadata',
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    const time = context.traits.exactTimes ? '%.9Y' : '%Y';
    const script = `find . -type f -exec stat -c '%s ${time} %n' {} + | LC_ALL=C sort`;
    for (let pass = 0; pass < 2; pass += 1) {
      await assertSameOutput(context, script);
      await shellOk(context, context.mount, 'cat * > /dev/null');
    }
    if (context.traits.stableChangeTime) await assertStableChangeTime(context);
  },
};

/** ctime must not move through reading: tar says "file changed as we read it". */
async function assertStableChangeTime(context: ProbeContext): Promise<void> {
  const script = `before=$(stat -c %z *); cat * > /dev/null; [ "$before" = "$(stat -c %z *)" ]`;
  const result = await shell(context, context.mount, script);
  assert.equal(result.code, 0, 'reading changed a ctime');
}

/** du, cp and tar take blocks == 0 for "nothing there". */
const blocks: Probe = {
  name: 'blocks',
  sees: 'none',
  when: (traits) => traits.claimsBlocks,
  prepare: (writer) => writeMixedFiles(writer),
  async run(context) {
    const script = `find . -type f -printf '%b %s %P\\n' | awk '$1 * 512 < $2 { print }'`;
    for (let pass = 0; pass < 2; pass += 1) {
      const found = await shellOk(context, context.mount, script);
      assert.equal(found.stdout.toString(), '', 'files that look sparse');
      await shellOk(context, context.mount, 'cat * > /dev/null');
    }
  },
};

const tree: Probe = {
  name: 'tree',
  sees: 'metadata',
  prepare(writer) {
    writeManySmall(writer);
    writeDeep(writer);
  },
  async run(context) {
    await assertSameOutput(context, findSorted('%y %P'));
    await assertSameOutput(context, 'find deep -name leaf.txt -exec cat {} +');
    await assertSameOutput(context, 'find many -type f | LC_ALL=C sort | xargs cksum');
    await assertSameOutput(context, 'find . -type d | wc -l; find . -type f -size 0 | wc -l');
  },
};

/** Does not stat first: opens the deepest path straight away, then a name that is not there. */
const direct: Probe = {
  name: 'direct-path',
  sees: 'content',
  prepare: (writer) => {
    writeDeep(writer);
  },
  async run(context) {
    const leaf = `deep/${Array.from({ length: 40 }, (_unused, level) => `level-${level}`).join('/')}`;
    await assertSameOutput(context, `cat ${leaf}/leaf.txt`);
    await assertSameOutput(context, `cat ${leaf}/absent.txt; cat absent/absent; ls absent`);
    await assertSameOutput(context, `cat ${leaf}/leaf.txt/below; cd ${leaf}/leaf.txt`);
  },
};

const wideEntries = 10_000;

/** Many READDIR calls; each name exactly once, with small buffers, too. */
const wide: Probe = {
  name: 'wide-directory',
  sees: 'metadata',
  prepare(writer) {
    writer.text('wide/some', 'x');
    for (let index = 0; index < wideEntries; index += 1) {
      writeFileSync(`${writer.root}/wide/entry-${index}`, index % 100 === 0 ? `${index}` : '');
    }
  },
  async run(context) {
    await assertSameOutput(context, 'ls -f1 wide | LC_ALL=C sort');
    await assertSameOutput(context, "find wide -name '*7' -size -2 | wc -l");
    const names = readdirSync(`${context.source}/wide`).length;
    const small = await run(context.helper, ['names', `${context.mount}/wide`]);
    assert.equal(small.stdout.toString().trim(), `${names + 2}`, small.stderr.toString());
    await assertSameOutput(context, 'cat wide/entry-*00');
  },
};

const changes: readonly string[] = [
  'echo x > odd.bin',
  'echo x >> odd.bin',
  ': > new-file',
  'rm -f odd.bin',
  'mv odd.bin other',
  'ln odd.bin link',
  'ln -s odd.bin symlink',
  'mkdir new-directory',
  'chmod 600 odd.bin',
  'touch -d 2001-01-01 odd.bin',
  'truncate -s 5 odd.bin',
  'dd if=/dev/zero of=odd.bin bs=1 count=1 conv=notrunc',
  'fallocate -p -o 0 -l 4096 odd.bin',
  'mkfifo fifo',
];

/** Everything that would change the remote is refused with EROFS or EPERM, and changes nothing. */
const refusals: Probe = {
  name: 'refused-changes',
  sees: 'none',
  when: (traits) => traits.readOnly,
  prepare: (writer) => writeFewFiles(writer),
  async run(context) {
    for (const change of changes) {
      const result = await shell(context, context.mount, change);
      assert.notEqual(result.code, 0, `${change}: was not refused`);
      assert.match(
        result.stderr.toString(),
        /Read-only file system|Operation not permitted|Permission denied|not supported/,
        change,
      );
    }
    await assertSameOutput(context, findSorted('%y %s %P').replace('find .', 'find . -type f'));
    await shellOk(context, context.mount, 'mkdir "$SCRATCH/out" && cp * "$SCRATCH/out/"');
    assertSameFiles(`${context.scratch}/out`, context.source);
  },
};

/** All of them. */
export const metadataProbes: readonly Probe[] = [
  names,
  attributes,
  blocks,
  tree,
  direct,
  wide,
  refusals,
];
