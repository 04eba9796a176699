/** Reads the `user.ebb.*` attributes of files on a mount, by a child: the mount may hang. */
import path from 'node:path';
import { runOk } from './run.ts';
import type { RunOptions } from './run.ts';

/** Value of `user.ebb.<name>` for each file (relative to `mount`); absent where the file has none. */
export async function ebbAttributes(
  mount: string,
  names: readonly string[],
  attribute: 'state' | 'resident_bytes' | 'size' | 'version' | 'key',
  options: RunOptions = {},
): Promise<Map<string, string>> {
  const files = names.map((name) => path.join(mount, name));
  const result = await runOk(
    'getfattr',
    ['--absolute-names', '-n', `user.ebb.${attribute}`, '--', ...files],
    { debianPackage: 'attr', ...options },
  );
  const found = new Map<string, string>();
  let current = '';
  for (const line of result.stdout.toString().split('\n')) {
    if (line.startsWith('# file: ')) current = path.relative(mount, line.slice(8));
    const value = /^user\.ebb\.[a-z_]+="(.*)"$/.exec(line);
    if (value !== null) found.set(current, value[1] ?? '');
  }
  return found;
}

/** Bytes here, per file. */
export async function residentBytes(
  mount: string,
  names: readonly string[],
): Promise<Map<string, number>> {
  const texts = await ebbAttributes(mount, names, 'resident_bytes');
  return new Map([...texts].map(([name, text]) => [name, Number(text)]));
}
