/** From a handle token to the daemon that gave it out: its tag is in the status of that daemon. */
import { ebbError } from '../base/errors.ts';
import { parseToken } from '../base/handle-token.ts';
import { ControlClient } from './client.ts';
import { Mounts } from './target.ts';

/** Throws EINVAL for what is no token, ENOENT when no mount or tree of this user gave it out. */
export async function clientOfToken(token: string, mounts = new Mounts()): Promise<ControlClient> {
  const parsed = parseToken(token);
  if (parsed === undefined) {
    throw ebbError('EINVAL', 'This is no token, or not all of one; ebb handle FILE prints one.');
  }
  const asked = await Promise.all(mounts.live.map((record) => hasTag(record, parsed.tag)));
  const found = asked.find((client) => client !== undefined);
  if (found !== undefined) return found;
  throw ebbError(
    'ENOENT',
    'No mount or tree of yours gave this token out. Mount or attach what it was given out by; ebb status lists these.',
  );
}

async function hasTag(
  record: ControlClient['record'],
  tag: string,
): Promise<ControlClient | undefined> {
  const client = new ControlClient(record);
  try {
    const status = await client.status();
    return status.tokenTag === tag ? client : undefined;
  } catch {
    // One that does not answer is not the one that could help now.
    return undefined;
  }
}
