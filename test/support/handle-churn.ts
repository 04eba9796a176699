/**
 * Removes and makes a file again and again where the file system gives the inode number to the next one, and asks
 * after each round what an old handle and an old descriptor lead to. For a process of its own (handle-process.ts).
 */
import { readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { OpenFlag, openFd } from '../../src/sys/fd.ts';
import { handleOf, openByHandle } from '../../src/sys/handle.ts';
import { toEbbError } from '../../src/base/errors.ts';

export interface ChurnRequest {
  /** Where files are made. */
  readonly source: string;
  /** Where they are looked at: a mount of `source`, or `source` itself. */
  readonly view: string;
  readonly cycles: number;
}

export interface ChurnResult {
  /** Rounds in which the new file got the old one's inode number. */
  readonly reusedInodes: number;
  /** What old handles led to: an errno's name, or `old` for their own file's bytes. */
  readonly handles: Readonly<Record<string, number>>;
  readonly descriptors: Readonly<Record<string, number>>;
  /** Handles and descriptors that led to anything but their own file. The first few. */
  readonly wrong: readonly string[];
}

const wrongMax = 5;
const name = 'file';

export function churn({ source, view, cycles }: ChurnRequest): ChurnResult {
  const made = path.join(source, name);
  const seen = path.join(view, name);
  const handles: Record<string, number> = {};
  const descriptors: Record<string, number> = {};
  const wrong: string[] = [];
  let reusedInodes = 0;
  const check = (
    counts: Record<string, number>,
    what: string,
    own: string,
    read: () => string,
  ): void => {
    const outcome = outcomeOf(read, own);
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    if (outcome === 'wrong' && wrong.length < wrongMax) wrong.push(what);
  };
  using root = openFd(view, OpenFlag.rdonly | OpenFlag.directory);
  writeFileSync(made, textOf(0));
  for (let cycle = 0; cycle < cycles; cycle += 1) {
    const own = textOf(cycle);
    const inode = statSync(made).ino;
    using held = openFd(seen, OpenFlag.rdonly);
    // Every other one has read nothing yet when its file goes.
    if (cycle % 2 === 0) contentOf(held.fd);
    const { handle } = handleOf(held.fd);
    rmSync(made);
    writeFileSync(made, textOf(cycle + 1));
    if (statSync(made).ino === inode) reusedInodes += 1;
    check(handles, `handle ${cycle} before a lookup`, own, () => {
      using opened = openByHandle(root.fd, handle, OpenFlag.rdonly);
      return contentOf(opened.fd);
    });
    // What is there now comes into the kernel's caches.
    using current = openFd(seen, OpenFlag.rdonly);
    const now = contentOf(current.fd);
    if (now !== textOf(cycle + 1)) wrong.push(`the name in round ${cycle}: ${now}`);
    check(handles, `handle ${cycle}`, own, () => {
      using opened = openByHandle(root.fd, handle, OpenFlag.rdonly);
      return contentOf(opened.fd);
    });
    check(descriptors, `descriptor ${cycle}`, own, () => contentOf(held.fd));
  }
  return { reusedInodes, handles, descriptors, wrong };
}

function outcomeOf(read: () => string, own: string): string {
  try {
    return read() === own ? 'old' : 'wrong';
  } catch (error) {
    return toEbbError(error).code;
  }
}

/** All of one length: only the bytes tell two files apart. */
function textOf(cycle: number): string {
  return `content ${String(cycle).padStart(9, '0')}`;
}

function contentOf(fd: number): string {
  const buffer = Buffer.alloc(64);
  return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0));
}
