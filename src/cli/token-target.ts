/** From a handle token to the daemon that gave it out: its tag is in the status of that daemon. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ebbError } from '../base/errors.ts';
import { parseToken } from '../base/handle-token.ts';
import { ControlClient } from './client.ts';
import { Mounts } from './target.ts';
import { visible } from './terminal.ts';

/** So long a daemon may be silent that may or may not be the one. */
const silenceMaxMs = 30_000;

/**
 * Who gave it out, as soon as that one says so: another daemon that hangs keeps nobody waiting. Throws EINVAL for what
 * is no token, ENOENT when no mount or tree of this user gave it out, ETIMEDOUT when one that is silent may have.
 */
export async function clientOfToken(
  token: string,
  mounts = new Mounts(),
  maxMs = silenceMaxMs,
): Promise<ControlClient> {
  const parsed = parseToken(token);
  if (parsed === undefined) {
    throw ebbError('EINVAL', 'This is no token, or not all of one; ebb handle FILE prints one.');
  }
  const silent = new Set(mounts.live);
  const asked = mounts.live.map(async (record) => {
    const client = new ControlClient(record);
    // One that cannot be asked is not the one that could help now.
    const status = await client.status().catch(() => undefined);
    silent.delete(record);
    return status?.tokenTag === parsed.tag ? client : Promise.reject(new Error('another one'));
  });
  const late = new AbortController();
  const timeout = sleep(maxMs, undefined, { signal: late.signal }).catch(() => undefined);
  const found = await Promise.race([Promise.any(asked).catch(() => undefined), timeout]);
  late.abort();
  if (found !== undefined) return found;
  const [one] = silent;
  if (one !== undefined) {
    throw ebbError(
      'ETIMEDOUT',
      `The daemon of ${visible(one.mountPoint)} does not answer, and no other one gave this token out.`,
    );
  }
  throw ebbError(
    'ENOENT',
    'No mount or tree of yours gave this token out. Mount or attach what it was given out by; ebb status lists these.',
  );
}
