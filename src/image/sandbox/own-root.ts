/**
 * A root directory with nothing in it but what a server starts from. The copy of all mounts that a new mount namespace
 * begins with would keep every file system of the machine in use: none could be taken away while the server lives, not
 * even the image's own mount.
 */
import {
  lstatSync,
  mkdirSync,
  readlinkSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { MountFlag, mount } from '../../sys/mount.ts';
import { MountAttribute, attachMount, changeMount, cloneMount } from '../../sys/mount-tree.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { replaceRoot } from '../../sys/root-directory.ts';

/** Any directory that every system has; only this namespace sees what lies over it. */
const scaffold = '/tmp';
const rootMaxBytes = 65_536;

type Part =
  | { readonly at: string; readonly leadsTo: string }
  | { readonly at: string; readonly clone: OwnedFd; readonly isDirectory: boolean };

/**
 * Leaves `paths` (those that exist) in this mount namespace, read-only, at their places, and nothing else. A path that
 * is a symlink itself, as /lib is, stays one; what it leads to must be among the paths. Needs CAP_SYS_ADMIN in the
 * namespace, whose mounts must not be shared with another.
 */
export function takeOwnRoot(paths: readonly string[]): void {
  const parts = paths.flatMap((each) => partOf(each) ?? []);
  mount({
    source: 'ebb',
    target: scaffold,
    type: 'tmpfs',
    flags: MountFlag.nosuid | MountFlag.nodev,
    data: `mode=755,size=${rootMaxBytes}`,
  });
  for (const part of parts) build(part);
  replaceRoot(scaffold);
  const { rdonly, nosuid, nodev } = MountAttribute;
  changeMount('/', { set: rdonly | nosuid | nodev, recursive: true });
}

/** Taken before the scaffold hides anything. */
function partOf(place: string): Part | undefined {
  const found = lstatSync(place, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const at = path.join(realpathSync(path.dirname(place)), path.basename(place));
  if (found.isSymbolicLink()) return { at, leadsTo: readlinkSync(at) };
  return { at, clone: cloneMount(at, true), isDirectory: found.isDirectory() };
}

function build(part: Part): void {
  const place = path.join(scaffold, part.at);
  mkdirSync(path.dirname(place), { recursive: true });
  if ('leadsTo' in part) return symlinkSync(part.leadsTo, place);
  using tree = part.clone;
  if (part.isDirectory) mkdirSync(place, { recursive: true });
  else writeFileSync(place, '');
  attachMount(tree.fd, place);
}
