/**
 * What a service manager kept of a tree that cannot be attached again, because of wrong options say: readers wait for
 * whoever gets the descriptors, so a supervisor is started that only ends all of it in order.
 */
import type { AttachStartResult } from '../../daemon/start-api.ts';
import { takeKeptDescriptors } from '../kept-descriptors.ts';
import { startService } from '../start-service.ts';
import { ExitCode } from '../verb.ts';

/** In the place of a tree that nobody knows: what was kept says which one it was. */
const unknownTree = '/';

/** Resolves with `code` when nobody waits any more; with `failed`, after which the service is tried again, else. */
export async function endKeptTree(code: ExitCode): Promise<ExitCode> {
  const kept = takeKeptDescriptors();
  if (kept.length === 0) return code;
  const { result } = await startService<Extract<AttachStartResult, { ok: true }>>(
    {
      script: 'supervisor/main.ts',
      scriptVariable: 'EBB_SUPERVISOR_MAIN',
      mountPoint: unknownTree,
      foreground: true,
      aim: 'what was kept was let go',
      kept,
    },
    {
      tree: unknownTree,
      foreground: true,
      refused: 'it cannot be attached as it is asked for',
      startedBy: process.pid,
    },
  );
  return !result.ok && result.code === 'ECANCELED' ? code : ExitCode.failed;
}
