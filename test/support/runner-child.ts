/** What each process of the runner (test/run.ts) loads before its test file. */
import { enableCompileCache } from 'node:module';
import { after } from 'node:test';

/**
 * Every file is a process of its own, most of whose start is compiling. Ebb's commands, which tests start, too, keep
 * what they have compiled at the same place.
 */
enableCompileCache('/var/cache/ebb/node');

const lingerMs = 1_000;

/**
 * What a test has left open does not keep its process for ever. The runner's own `forceExit` ends a process while its
 * reports are on their way: of files with many quick tests a third was missing.
 */
after(() => {
  setTimeout(() => process.exit(), lingerMs).unref();
});
