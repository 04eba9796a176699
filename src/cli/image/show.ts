/** What the reader of images says, for people. Everything in it comes from untrusted images. */
import type { ImageDone, ImageEntry, ImageInfo } from '../../daemon/helper-api.ts';
import { alignRows, renderFacts, renderTable } from '../table.ts';
import { visible, visibleSentence } from '../terminal.ts';
import { formatBytes, formatBytesShort, formatCount, formatTime, plural } from '../units.ts';

const typeLetters: Readonly<Record<ImageEntry['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  character: 'c',
  block: 'b',
  fifo: 'p',
  socket: 's',
};

/** `drwxr-sr-x`, as ls -l. */
export function modeText(type: ImageEntry['type'], mode: number): string {
  const bits = Array.from('rwxrwxrwx', (letter, index) =>
    (mode >> (8 - index)) & 1 ? letter : '-',
  );
  const special: readonly (readonly [number, number, string])[] = [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ];
  for (const [bit, place, letter] of special) {
    if ((mode & bit) !== 0) bits[place] = bits[place] === 'x' ? letter : letter.toUpperCase();
  }
  return typeLetters[type] + bits.join('');
}

/** Lines as of ls -l. */
export function entryLines(entries: readonly ImageEntry[], human: boolean): string[] {
  const rows = entries.map((entry) => {
    const { type, mode, links, uid, gid, device, sizeBytes, mtime, target } = entry;
    const size = human ? formatBytesShort(sizeBytes) : String(sizeBytes);
    const shown = device === undefined ? size : `${device.major}, ${device.minor}`;
    const arrow = target === undefined ? '' : ` -> ${visible(target)}`;
    return [
      modeText(type, mode),
      String(links),
      String(uid),
      String(gid),
      shown,
      formatTime(mtime.seconds * 1000),
      `${visible(entry.path)}${arrow}`,
    ];
  });
  const [left, right] = [{ align: 'left' }, { align: 'right' }] as const;
  return alignRows(rows, [left, right, right, right, right, left, left]);
}

export function infoLines(name: string, info: ImageInfo): string[] {
  const { container, table, place, filesystem } = info;
  const lines = [visible(name), ...renderFacts(containerFacts(info))];
  if (table !== null) {
    lines.push('', `Partition table (${table.kind.toUpperCase()})`);
    const rows = table.partitions.map((one) => [
      `${one.number}${one.number === place?.partition ? '*' : ''}`,
      String(one.offsetBytes),
      formatBytes(one.sizeBytes),
      one.typeName,
      visible(one.label) + (one.problem === undefined ? '' : ` (${one.problem})`),
    ]);
    const titles = ['number', 'offset', 'size', 'type', 'label'];
    const columns = titles.map((title, index) => ({
      title,
      align: index === 1 || index === 2 ? ('right' as const) : ('left' as const),
    }));
    lines.push(...renderTable(columns, rows).map((line) => `  ${line}`));
    lines.push(...table.warnings.map((warning) => `  Warning: ${warning}`));
  }
  if (filesystem !== null)
    lines.push('', 'File system', ...renderFacts(filesystemFacts(filesystem)));
  if ('markedCorrupt' in container && container.markedCorrupt) {
    lines.push('', 'Warning: QEMU marked this image as corrupt.');
  }
  return lines;
}

type Fact = readonly [string, string];

function containerFacts({ container, sizeBytes, diskSizeBytes, place }: ImageInfo): Fact[] {
  const facts: Fact[] = [
    ['format', container.format],
    ['size', formatBytes(sizeBytes)],
  ];
  if (container.format === 'qcow2') {
    facts.push(
      ['disk', formatBytes(diskSizeBytes)],
      ['version', String(container.version)],
      ['clusters', `${formatBytes(container.clusterSizeBytes)}, ${container.compression}`],
      ['snapshots', String(container.snapshots)],
    );
  }
  if (place !== null && place.offsetBytes > 0) facts.push(['begins at', String(place.offsetBytes)]);
  return facts;
}

function filesystemFacts(filesystem: NonNullable<ImageInfo['filesystem']>): Fact[] {
  const { blockSizeBytes, blockCount, freeBlocks, inodeCount, freeInodes, replay } = filesystem;
  const blocks = `${formatCount(blockCount)} of ${formatBytes(blockSizeBytes)}`;
  const journal = {
    none: 'nothing to replay',
    ignored: 'not replayed: what was changed last is missing',
    replayed:
      `${plural(replay.transactions, 'transaction')} replayed in memory, ${plural(replay.blocks, 'block')}` +
      (replay.fastChanges > 0 ? `, ${plural(replay.fastChanges, 'fast change')}` : '') +
      (replay.fastChangesIgnored > 0 ? '; fast commits left out' : ''),
  }[replay.state];
  const backup = filesystem.backup;
  return [
    ['label', visible(filesystem.label)],
    ['uuid', filesystem.uuid],
    ['size', formatBytes(blockCount * blockSizeBytes)],
    ['blocks', `${blocks}, ${formatCount(freeBlocks)} free`],
    ['inodes', `${formatCount(inodeCount)}, ${formatCount(freeInodes)} free`],
    ['state', filesystem.state],
    ['journal', journal],
    ...(backup === null
      ? []
      : [
          [
            'superblock',
            `the copy in block ${backup.blockNumber}: ${visibleSentence(backup.reason)}`,
          ] as const,
        ]),
    ['features', filesystem.features.join(' ')],
  ];
}

/** The last line of `cp` and `check`. */
export function doneLine(verb: 'cp' | 'check', done: ImageDone, complaints: number): string {
  const { files, directories, bytes, attributesLost } = done;
  const found = `${plural(files, 'file')}, ${plural(directories, 'directory', 'directories')}`;
  if (verb === 'check') {
    const verdict = complaints === 0 ? 'everything can be read' : plural(complaints, 'problem');
    return `${found}, ${formatBytes(bytes)}: ${verdict}`;
  }
  const lost =
    attributesLost === 0 ? '' : `; ${plural(attributesLost, 'attribute')} could not be set here`;
  return `${found}, ${formatBytes(bytes)} copied${lost}`;
}
