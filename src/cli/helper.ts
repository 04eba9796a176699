/** Runs one of the daemon's helper programs as a child process and reads the JSON that it prints. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ebbError } from '../base/errors.ts';

const outputMaxLength = 16 * 1024 * 1024;

/** Runs `src/daemon/NAME.ts` with arguments. Rejects with EIO when it prints no JSON. */
export async function runHelper(
  name: 'doctor' | 'rebuild' | 'attach-check' | 'pool',
  words: readonly string[],
): Promise<unknown> {
  const script = fileURLToPath(new URL(`../daemon/${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let complaints = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(0, outputMaxLength);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-2000);
  });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  try {
    return JSON.parse(output);
  } catch (cause) {
    const why =
      complaints
        .trim()
        .split('\n')
        .find((line) => /Error/.test(line)) ?? 'it said nothing';
    throw ebbError('EIO', `The helper program ${name} failed: ${why}`, { cause });
  }
}
