/** Which Ebb this is. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** `version` of package.json. */
export function packageVersion(): string {
  const file = path.join(import.meta.dirname, '..', '..', 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
