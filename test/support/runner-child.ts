/** What each process of the runner (test/run.ts) loads before its test file. */
import { enableCompileCache } from 'node:module';
import { after } from 'node:test';
import { pathToFileURL } from 'node:url';

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
function endSoonAfterwards(): void {
  after(() => {
    setTimeout(() => process.exit(), lingerMs).unref();
  });
}

const file = process.argv[1];
// Hooks run in the order in which they were told of: those of the file, which clean up, come first.
if (file !== undefined) {
  void import(pathToFileURL(file).href).then(endSoonAfterwards, endSoonAfterwards);
}
