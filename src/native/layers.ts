/**
 * Files that are opened through a mount that nobody sees. overlayfs clones the mounts of its layers for itself, opens
 * its files there when its own are opened, and maps those: FAN_OPEN_PERM and reads tell of it, mappings and programs
 * that are started do not (Linux 6.18). So such a file has to be here before it is open.
 */
import { readFileSync } from 'node:fs';
import { BoundedMap } from '../base/bounded-map.ts';
import { uniqueMountId } from '../sys/stat.ts';

/** Mounts that are remembered as seen: a handful on most machines, some for each container. */
export const mountsSeenMax = 4_096;

export class Layers {
  /** By the id that no other mount gets. What was seen once stays an ordinary mount, also when it is taken away. */
  readonly #seen = new BoundedMap<bigint, true>(mountsSeenMax);
  readonly #onSeen: (uniqueId: bigint) => void;

  /** `onSeen`: this mount is an ordinary one. */
  constructor(onSeen: (uniqueId: bigint) => void) {
    this.#onSeen = onSeen;
  }

  /**
   * True when neither the thread's mount namespace nor ours shows the mount of the open file: a layer, or a mount of a
   * namespace that its opener does not live in. `mountId`: as in mountinfo, of the same file.
   */
  isOpenedThroughOne(fd: number, mountId: number, tid: number): boolean {
    const id = uniqueMountId(fd);
    if (this.#seen.has(id)) return false;
    if (!shows(String(tid), mountId) && !shows('self', mountId)) return true;
    this.#seen.set(id, true);
    this.#onSeen(id);
    return false;
  }
}

function shows(pid: string, mountId: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/mountinfo`, 'latin1');
    return text.startsWith(`${mountId} `) || text.includes(`\n${mountId} `);
  } catch {
    return false;
  }
}
