/**
 * Modules of Node that are large and seldom needed, loaded at their first use: node:crypto takes 15 ms of a start,
 * node:zlib 5 (Node 26). They are in Node's binary, so that this needs no system call that a sandbox forbids.
 */
import type Crypto from 'node:crypto';
import type Zlib from 'node:zlib';

export function crypto(): typeof Crypto {
  return process.getBuiltinModule('node:crypto');
}

export function zlib(): typeof Zlib {
  return process.getBuiltinModule('node:zlib');
}
