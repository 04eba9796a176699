/** Sums per directory over a depth-first listing, in the order of du(1): a directory after what is in it. Pure. */
import type { DiskUsage, FileInfo } from '../daemon/api.ts';

export type DirectorySum = DiskUsage;

interface Open {
  readonly path: string;
  files: number;
  directories: number;
  remoteBytes: number;
  residentBytes: number;
  incomplete: boolean;
}

export class DirectorySums {
  /** The directories on the way to the last entry; the first is the one that was asked for. */
  readonly #open: Open[];

  constructor(rootPath: string) {
    this.#open = [newOpen(rootPath)];
  }

  /** Takes the next entry; returns the directories that are finished by it. */
  add(info: FileInfo): DirectorySum[] {
    const finished = this.#closeUntil((open) => contains(open.path, info.path));
    const current = this.#open.at(-1);
    if (current === undefined) return finished;
    if (info.kind === 'directory' && info.path !== current.path) {
      current.directories += 1;
      this.#open.push({ ...newOpen(info.path), incomplete: info.unlisted === true });
    } else if (info.kind === 'file') {
      current.files += 1;
      current.remoteBytes += Math.max(0, info.sizeBytes);
      current.residentBytes += info.residentBytes;
      if (info.sizeBytes < 0) current.incomplete = true;
    }
    return finished;
  }

  /** Finishes all that is open. */
  end(): DirectorySum[] {
    return this.#closeUntil(() => false, true);
  }

  #closeUntil(isOpen: (open: Open) => boolean, withRoot = false): DirectorySum[] {
    const finished: DirectorySum[] = [];
    while (this.#open.length > (withRoot ? 0 : 1)) {
      const last = this.#open.at(-1);
      if (last === undefined || isOpen(last)) break;
      this.#open.pop();
      const parent = this.#open.at(-1);
      if (parent !== undefined) {
        parent.files += last.files;
        parent.directories += last.directories;
        parent.remoteBytes += last.remoteBytes;
        parent.residentBytes += last.residentBytes;
        if (last.incomplete) parent.incomplete = true;
      }
      finished.push({ ...last });
    }
    return finished;
  }
}

function newOpen(path: string): Open {
  return { path, files: 0, directories: 0, remoteBytes: 0, residentBytes: 0, incomplete: false };
}

function contains(directory: string, path: string): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`);
}
