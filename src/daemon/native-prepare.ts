/**
 * Prepares a tree's directories before it is watched: started by the supervisor with the options of `ebb attach` on
 * standard input, prints one line of JSON.
 */
import { text } from 'node:stream/consumers';
import { prepareTree } from '../attach/tree-layout.ts';
import { toEbbError } from '../base/errors.ts';
import { attachDefaults, parseAttachOptions } from './attach-options.ts';
import { remoteIdentity } from './options.ts';

async function main(): Promise<Readonly<Record<string, unknown>>> {
  try {
    const { tree, remote, stateDirectory } = parseAttachOptions(await text(process.stdin));
    const places = prepareTree({
      tree,
      remote: remote === undefined ? undefined : remoteIdentity(remote),
      stateParent: stateDirectory,
      stateDefault: attachDefaults.stateDirectory,
    });
    return { ok: true, ...places };
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    return { ok: false, code, error: message };
  }
}

process.stdout.write(`${JSON.stringify(await main())}\n`);
