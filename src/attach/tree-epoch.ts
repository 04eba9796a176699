/**
 * Whether a catalog is the one that its tree was last served with. One that was put back from an older copy claims what
 * was released since, so poison or zeros would be read as data, and has content recalled over what users changed since.
 *
 * Tree (`.ebb/epoch`) and catalog have a random word in common, another one after each beginning and each orderly end.
 * The catalog is told first, and then knows two: whichever of them a crash leaves in the tree is right. What a copy
 * that was made after the last of these moments is put back for is not noticed here.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { ebbError, toEbbError } from '../base/errors.ts';
import { replacePrivate } from '../tree/private-file.ts';

export const epochName = 'epoch';
const settingName = 'epochs';
/** Of a tree that was never served, or by an older Ebb only. */
const none = '';

/** Settings of the catalog: durable when `setSetting` returns. */
export interface EpochRecord {
  setting(name: string): string | undefined;
  setSetting(name: string, value: string): void;
}

/** Throws EUCLEAN. `ebbDirectory`: the `.ebb` of `tree`, by any path. */
export function requireSameEpoch(record: EpochRecord, ebbDirectory: string, tree: string): void {
  const known = (record.setting(settingName) ?? none).split(' ');
  if (known.includes(epochOf(ebbDirectory))) return;
  throw ebbError(
    'EUCLEAN',
    'the catalog of this tree is not the one that it was last served with, but another one or an older copy, and ' +
      `does not know what is here. First: ebb rebuild ${tree}, which makes it anew from the marks on the files`,
    { retryable: false },
  );
}

/** Copies of the catalog that were made before are refused from now on. Throws what catalog and file system say. */
export function beginEpoch(record: EpochRecord, ebbDirectory: string): void {
  const next = randomUUID();
  record.setSetting(settingName, `${epochOf(ebbDirectory)} ${next}`);
  replacePrivate(`${ebbDirectory}/${epochName}`, next);
  // The name, too, before the catalog forgets the word that was under it.
  const directory = openSync(ebbDirectory, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** For a catalog that was made from what the tree is now. */
export function keepEpoch(record: EpochRecord, ebbDirectory: string): void {
  record.setSetting(settingName, epochOf(ebbDirectory));
}

function epochOf(ebbDirectory: string): string {
  try {
    return readFileSync(`${ebbDirectory}/${epochName}`, 'utf8');
  } catch (error) {
    const known = toEbbError(error);
    if (known.code === 'ENOENT') return none;
    throw known;
  }
}
