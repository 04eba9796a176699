/**
 * Prints what programs can see of a tree, one JSON object a line, in the order of the names' bytes. Run as a process of
 * its own: a mount that hangs must not stop the test that says so. Arguments: directory, `content` or `names`.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  openSync,
  readSync,
  readdirSync,
  readlinkSync,
  writeSync,
} from 'node:fs';
import { toEbbError } from '../../src/base/errors.ts';
import { decodeName } from '../../src/base/name.ts';
import { Seek, seek } from '../../src/sys/io.ts';
import { getXattr, listXattrs } from '../../src/sys/xattr.ts';

const [root = '', what = 'content'] = process.argv.slice(2);
const longMap = 1000;
const buffer = new Uint8Array(1024 * 1024);

/** Of very many holes it is enough to know whether they are the same. */
function shortOf(map: readonly number[]): unknown {
  if (map.length <= longMap) return map;
  return { seams: map.length, sha256: createHash('sha256').update(map.join()).digest('hex') };
}

function contentOf(file: Buffer, sizeBytes: number): object {
  const fd = openSync(file, 'r');
  try {
    // Before the content is read: pages of unwritten extents count as data as soon as they are cached.
    const map: number[] = [];
    for (let at = 0; at < sizeBytes;) {
      const data = seek(fd, at, Seek.data);
      if (data < 0) break;
      const hole = seek(fd, data, Seek.hole);
      map.push(data, hole);
      at = hole;
    }
    const hash = createHash('sha256');
    let readBytes = 0;
    for (;;) {
      const count = readSync(fd, buffer, 0, buffer.length, readBytes);
      if (count === 0) break;
      readBytes += count;
      hash.update(buffer.subarray(0, count));
    }
    return { readBytes, sha256: hash.digest('hex'), map: shortOf(map) };
  } finally {
    closeSync(fd);
  }
}

function xattrsOf(file: Buffer): object {
  const name = decodeName(file);
  const found = listXattrs(name)
    .toSorted()
    .filter((each) => !each.startsWith('security.'));
  return Object.fromEntries(
    found.map((each) => [each, Buffer.from(getXattr(name, each) ?? []).toString('hex')]),
  );
}

function show(file: Buffer, name: string): void {
  const stat = lstatSync(file, { bigint: true });
  const facts: Record<string, unknown> = {
    name,
    mode: Number(stat.mode).toString(8),
    nlink: Number(stat.nlink),
    owner: [Number(stat.uid), Number(stat.gid)],
    rdev: Number(stat.rdev),
    ino: Number(stat.ino),
    blocks: Number(stat.blocks),
    mtime: String(stat.mtimeNs),
    ctime: String(stat.ctimeNs),
  };
  let names: Buffer[] = [];
  try {
    if (stat.isDirectory()) names = readdirSync(file, { encoding: 'buffer' });
    else facts['size'] = Number(stat.size);
    if (stat.isSymbolicLink()) facts['target'] = readlinkSync(file, 'buffer').toString('latin1');
    else if (what === 'content') facts['xattrs'] = xattrsOf(file);
    if (stat.isFile() && what === 'content')
      Object.assign(facts, contentOf(file, Number(stat.size)));
  } catch (error) {
    facts['error'] = toEbbError(error).code;
  }
  writeSync(1, `${JSON.stringify(facts)}\n`);
  for (const each of names.toSorted((a, b) => Buffer.compare(a, b))) {
    const shown = each.toString('latin1');
    // Empty on one side, as long as the file system was made on the other.
    if (name === '' && shown === 'lost+found') continue;
    show(Buffer.concat([file, Buffer.from('/'), each]), `${name}/${shown}`);
  }
}

show(Buffer.from(root), '');
