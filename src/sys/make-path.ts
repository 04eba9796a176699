/** Directories with those above them. */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { toEbbError } from '../base/errors.ts';

/**
 * As `mkdirSync` with `recursive`, which for ever tries again where a directory that is there takes no other (/proc;
 * Node 26). Throws as mkdir(2), EEXIST for what is no directory.
 */
export function makePath(directory: string, mode: number): void {
  try {
    makeOne(directory, mode);
  } catch (error) {
    const parent = path.dirname(directory);
    if (toEbbError(error).code !== 'ENOENT' || existsSync(parent)) throw error;
    makePath(parent, mode);
    makeOne(directory, mode);
  }
}

function makeOne(directory: string, mode: number): void {
  try {
    mkdirSync(directory, { mode });
  } catch (error) {
    const isThere = toEbbError(error).code === 'EEXIST';
    if (!isThere || !statSync(directory).isDirectory()) throw error;
  }
}
