/** One file as `ebb ls` and `ebb find -l` show it. Pure but for the names of users. */
import type { FileInfo } from '../daemon/api.ts';
import { ownerName } from './owners.ts';
import type { Column } from './table.ts';
import { visible } from './terminal.ts';
import { formatBytesShort, formatTime } from './units.ts';

export const fileColumns: readonly Column[] = [
  { title: 'STATE' },
  { title: 'MODE' },
  { title: 'OWNER' },
  { title: 'SIZE', align: 'right' },
  { title: 'LOCAL', align: 'right' },
  { title: 'MODIFIED' },
  { title: 'NAME' },
];

/** State (`+` after it: pinned), mode, owner, size, local size, time, name. */
export function fileCells(info: FileInfo, shownName: string, human: boolean): string[] {
  const size = (bytes: number): string => {
    if (bytes < 0) return '?';
    return human ? formatBytesShort(bytes) : String(bytes);
  };
  const target = info.target === undefined ? '' : ` -> ${visible(info.target)}`;
  return [
    `${info.state}${info.pinned ? '+' : ''}`,
    formatMode(info.kind, info.mode),
    ownerName(info.uid),
    size(info.sizeBytes),
    info.kind === 'file' ? size(info.residentBytes) : '-',
    formatTime(info.mtimeMs),
    `${visible(shownName)}${target}`,
  ];
}

/** `-rw-r--r--`, with s, S, t, T as ls(1) writes them. */
export function formatMode(kind: FileInfo['kind'], mode: number): string {
  const type = { file: '-', directory: 'd', symlink: 'l' }[kind];
  if (mode < 0) return `${type}?????????`;
  const special = [
    [0o4000, 's'],
    [0o2000, 's'],
    [0o1000, 't'],
  ] as const;
  let text: string = type;
  special.forEach(([bit, letter], index) => {
    const rights = (mode >> (6 - index * 3)) & 7;
    const execute = (rights & 1) !== 0;
    const plain = execute ? 'x' : '-';
    const marked = execute ? letter : letter.toUpperCase();
    text += (rights & 4) === 0 ? '-' : 'r';
    text += (rights & 2) === 0 ? '-' : 'w';
    text += (mode & bit) === 0 ? plain : marked;
  });
  return text;
}
