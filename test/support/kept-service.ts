/** A tree attached by a service whose manager keeps its descriptors (service-manager.py). */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AttachedTree } from './attached-tree.ts';
import { ServiceManager } from './service-manager.ts';
import { temporaryDirectory } from './temporary.ts';
import type { LoopFilesystemType } from './temporary.ts';

export interface KeptService extends AsyncDisposable {
  readonly tree: AttachedTree;
  readonly manager: ServiceManager;
  /** From the next start on this is the command: what somebody wrote into the unit. */
  readonly change: (edit: (command: readonly string[]) => readonly string[]) => void;
}

/** `storeMax`: how many descriptors the manager keeps. `standby`: a second daemon waits. */
export async function attachAsService(
  type: LoopFilesystemType,
  remote: string,
  {
    storeMax = 16,
    standby = false,
    options = [],
  }: { storeMax?: number; standby?: boolean; options?: readonly string[] } = {},
): Promise<KeptService> {
  const place = await temporaryDirectory('manager');
  const script = path.join(place.path, 'start');
  let first: readonly string[] = [];
  let manager: ServiceManager | undefined;
  const write = (command: readonly string[]): void =>
    writeFileSync(script, `exec ${command.map((word) => `'${word}'`).join(' ')}\n`);
  try {
    const tree = await AttachedTree.attach({
      type,
      remote,
      standby,
      options: ['--foreground', '--limit-rate', '20M', '--whole-max', '64K', ...options],
      start: async (command, env) => {
        first = command;
        write(command);
        manager = new ServiceManager(place.path, storeMax, ['/bin/sh', script], env);
        await manager.until('ready', 1);
      },
      end: async () => manager?.[Symbol.asyncDispose](),
    });
    const started = manager as unknown as ServiceManager;
    return {
      tree,
      manager: started,
      change: (edit) => write(edit(first)),
      async [Symbol.asyncDispose]() {
        started.signal('SIGCONT');
        await tree[Symbol.asyncDispose]();
        await place[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await place[Symbol.asyncDispose]();
    throw error;
  }
}

/** A file in memory that a supervisor holds (`ebb-facts`: what it leaves to its successor), as a path. */
export function memoryFileOf(supervisorPid: number, called: string): string {
  const place = `/proc/${supervisorPid}/fd`;
  const fd = readdirSync(place).find((name) =>
    readlinkSync(path.join(place, name)).startsWith(`/memfd:${called}`),
  );
  if (fd === undefined) throw new Error(`the supervisor has no ${called}`);
  return path.join(place, fd);
}
