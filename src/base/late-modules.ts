/**
 * Modules of Node that are large and seldom needed, loaded at their first use: node:crypto takes 15 ms of a start,
 * node:zlib 5 (Node 26). They are in Node's binary, so that this needs no system call that a sandbox forbids.
 *
 * node:http takes 12, but 98 when it is imported: an import lists what a module exports, and runs its getters, one of
 * which loads Node's fetch.
 */
import type Crypto from 'node:crypto';
import type Http from 'node:http';
import type V8 from 'node:v8';
import type Vm from 'node:vm';
import type Zlib from 'node:zlib';

export function crypto(): typeof Crypto {
  return process.getBuiltinModule('node:crypto');
}

export function http(): typeof Http {
  return process.getBuiltinModule('node:http');
}

export function v8(): typeof V8 {
  return process.getBuiltinModule('node:v8');
}

export function vm(): typeof Vm {
  return process.getBuiltinModule('node:vm');
}

export function zlib(): typeof Zlib {
  return process.getBuiltinModule('node:zlib');
}
