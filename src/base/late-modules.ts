/**
 * Modules of Node that are large and seldom needed, loaded at their first use: node:crypto takes 15 ms of a start,
 * node:zlib 5 (Node 26). They are in Node's binary, so that this needs no system call that a sandbox forbids.
 *
 * node:http takes 12, but 98 when it is imported: an import lists what a module exports, and runs its getters, one of
 * which loads Node's fetch.
 */
import type Crypto from 'node:crypto';
import type Http from 'node:http';
import type Zlib from 'node:zlib';

export function crypto(): typeof Crypto {
  return process.getBuiltinModule('node:crypto');
}

export function http(): typeof Http {
  return process.getBuiltinModule('node:http');
}

export function zlib(): typeof Zlib {
  return process.getBuiltinModule('node:zlib');
}
