/**
 * Which secret a tree's marks were sealed with. By another one no mark is right, and what stands in for content would
 * be taken for users' data. `tree.json` says it (`sealOf`); of a tree that is older than that its marks do.
 */
import { createHmac } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { toEbbError } from '../base/errors.ts';
import { decodeName } from '../base/name.ts';
import { treeMarkName } from '../base/tree-mark.ts';
import { getXattr } from '../sys/xattr.ts';
import { decodeMark } from '../tree/mark.ts';
import type { MarkSeal } from '../tree/mark.ts';

/** One may be damaged. So many, and not one that is right before them, are another secret's. */
const brokenMax = 100;
const noHandle = new Uint8Array(0);
const slash = Buffer.from('/');

/** Tells the secret from others and says nothing about it. */
export function sealOf({ treeId, secret }: MarkSeal): string {
  const hmac = createHmac('sha256', secret);
  return hmac.update(`ebb tree ${treeId}`).digest('hex').slice(0, 32);
}

/**
 * False: the tree has marks, and another secret sealed them. Looks at names below `data` until one mark is right; opens
 * no file. Throws EACCES, EIO.
 */
export function mayHaveSealed(seal: MarkSeal, data: string): boolean {
  let broken = 0;
  for (const bytes of marksBelow(data)) {
    // Of which file it is does not matter here, and is told only of what is sealed rightly.
    const reading = decodeMark(bytes, noHandle, seal);
    if (reading.ok || reading.refusal === 'copied from another file') return true;
    if (reading.refusal === 'seal broken') broken += 1;
    if (broken >= brokenMax) return false;
  }
  return broken === 0;
}

function* marksBelow(data: string): Generator<Uint8Array> {
  const waiting = existsSync(data) ? [Buffer.from(data)] : [];
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    try {
      for (const entry of readdirSync(at, { withFileTypes: true, encoding: 'buffer' })) {
        const name = Buffer.concat([at, slash, entry.name]);
        if (entry.isDirectory()) waiting.push(name);
        const mark = entry.isFile() ? getXattr(decodeName(name), treeMarkName) : undefined;
        if (mark !== undefined) yield mark;
      }
    } catch (error) {
      throw toEbbError(error);
    }
  }
}
