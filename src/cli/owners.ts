/** User names by id from /etc/passwd (passwd(5)); ids that are not there show as numbers. */
import { readFileSync } from 'node:fs';

let names: ReadonlyMap<number, string> | undefined;

/** The name of a user, or the number as text. */
export function ownerName(uid: number): string {
  names ??= readNames();
  return names.get(uid) ?? String(uid);
}

function readNames(): ReadonlyMap<number, string> {
  try {
    const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
    const pairs = lines.map((line) => line.split(':')).filter((fields) => fields.length >= 3);
    return new Map(pairs.reverse().map((fields) => [Number(fields[2]), fields[0] ?? '']));
  } catch {
    return new Map();
  }
}
