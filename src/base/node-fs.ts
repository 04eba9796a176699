/**
 * What of node:fs the first processes of a mount need (docs/decisions/0040-memory-is-what-a-first-ls-waits-for.md).
 * An import of a module of Node lists all that it exports, and runs its getters for that: of node:fs one that loads its
 * promises, with streams and more, 5 to 11 ms.
 */
const fs = process.getBuiltinModule('node:fs');

export const chmodSync = fs.chmodSync;
export const closeSync = fs.closeSync;
export const constants = fs.constants;
export const fstatSync = fs.fstatSync;
export const lstatSync = fs.lstatSync;
export const mkdirSync = fs.mkdirSync;
export const openSync = fs.openSync;
export const readFileSync = fs.readFileSync;
export const readSync = fs.readSync;
export const readdirSync = fs.readdirSync;
export const realpathSync = fs.realpathSync;
export const renameSync = fs.renameSync;
export const rmSync = fs.rmSync;
export const statSync = fs.statSync;
export const writeFileSync = fs.writeFileSync;
export const writeSync = fs.writeSync;
