/**
 * Entry point behind `ebb pool`: `node pool.ts '{"action": "create", ...}'` (PoolRequest) does one thing to a pool and
 * prints one `PoolResult` as JSON. A process of its own, since it needs system calls that the CLI does not load; no
 * daemon is needed for pools.
 */
import * as v from 'valibot';
import { toEbbError } from '../base/errors.ts';
import {
  createPool,
  destroyPool,
  growPool,
  mountPool,
  poolStatus,
  unmountPool,
} from '../tree/pool/pool.ts';
import type { PoolRequest, PoolResult } from './helper-api.ts';
import { absolutePath, natural, parseLine } from './options.ts';

const image = { imagePath: absolutePath };
const schema = v.variant('action', [
  v.strictObject({ action: v.literal('status'), ...image }),
  v.strictObject({
    action: v.literal('create'),
    ...image,
    sizeBytes: natural,
    overcommit: v.boolean(),
    mountPoint: v.optional(absolutePath),
  }),
  v.strictObject({ action: v.literal('mount'), ...image, mountPoint: absolutePath }),
  v.strictObject({ action: v.literal('umount'), ...image }),
  v.strictObject({
    action: v.literal('grow'),
    ...image,
    sizeBytes: natural,
    overcommit: v.boolean(),
  }),
  v.strictObject({ action: v.literal('destroy'), ...image, force: v.boolean() }),
]);

/** Refused for the sake of what is there; nothing was changed. */
const refused: ReadonlySet<string> = new Set(['EBUSY', 'EEXIST', 'ENOTEMPTY', 'ENOSPC']);

/** Never throws. */
export async function pool(line: string): Promise<PoolResult> {
  try {
    const request: PoolRequest = parseLine(schema, line);
    await perform(request);
    if (request.action === 'destroy') return { ok: true, pool: null };
    const { device = null, mountPoint = null, ...rest } = await poolStatus(request.imagePath);
    return { ok: true, pool: { ...rest, device, mountPoint } };
  } catch (thrown) {
    const { code, message } = toEbbError(thrown);
    const exitCode = code === 'EINVAL' ? 2 : refused.has(code) ? 3 : 1;
    return { ok: false, error: message, code, exitCode };
  }
}

async function perform(request: PoolRequest): Promise<void> {
  const { imagePath } = request;
  switch (request.action) {
    case 'status':
      return;
    case 'create':
      await createPool(imagePath, request.sizeBytes, request);
      if (request.mountPoint !== undefined) await mountPool(imagePath, request.mountPoint);
      return;
    case 'mount':
      await mountPool(imagePath, request.mountPoint);
      return;
    case 'umount':
      return await unmountPool(imagePath);
    case 'grow':
      return await growPool(imagePath, request.sizeBytes, request);
    case 'destroy':
      return await destroyPool(imagePath, request);
  }
}

if (import.meta.main) {
  process.stdout.write(`${JSON.stringify(await pool(process.argv[2] ?? ''))}\n`);
}
