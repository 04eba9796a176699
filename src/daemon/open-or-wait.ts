/**
 * What was served before is served again, whatever became of its remote meanwhile: what is here can be read, and the
 * remote is used as soon as it can be opened.
 */
import { toEbbError } from '../base/errors.ts';
import { LateRemote } from '../remote/late.ts';
import { openRemote } from '../remote/open-remote.ts';
import type { Remote } from '../remote/remote.ts';
import type { Logbook } from './logbook.ts';

export interface OpenOrWaitOptions {
  /** It is the first time: who named the remote hears of what is wrong with it. */
  readonly mustOpen: boolean;
  /** Without credentials. */
  readonly displayName: string;
  readonly logbook: Logbook;
}

/** Throws what `openRemote` throws if it must open, and EINVAL. */
export async function openOrWait(
  options: Parameters<typeof openRemote>[0],
  { mustOpen, displayName, logbook }: OpenOrWaitOptions,
): Promise<Remote> {
  try {
    return await openRemote(options);
  } catch (error) {
    const { code, message } = toEbbError(error);
    if (mustOpen || code === 'EINVAL') throw error;
    logbook.log('warn', `the remote cannot be opened, serving what is here: ${message}`);
    const kind = /^https?:/i.test(options.url) ? 'http' : 'dir';
    return new LateRemote({ kind, displayName }, () => openRemote(options));
  }
}
