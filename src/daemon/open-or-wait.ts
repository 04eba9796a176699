/**
 * What was served before is served again, whatever became of its remote meanwhile: what is here can be read, and the
 * remote is used as soon as it can be opened.
 */
import { deadline } from '../base/deadline.ts';
import { toEbbError } from '../base/errors.ts';
import { isHttpUrl } from '../base/http-url.ts';
import { abandonOnAbort } from '../remote/abortable.ts';
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
  /** It was not opened, for this reason: it will be when it is needed. */
  readonly onLate?: (why: string) => void;
}

/** For so long who waits for a successor waits for a server that does not answer, too. */
const openMaxMs = 5_000;

/** Throws what `openRemote` throws if it must open, and EINVAL. */
export async function openOrWait(
  options: Parameters<typeof openRemote>[0],
  { mustOpen, displayName, logbook, onLate }: OpenOrWaitOptions,
): Promise<Remote> {
  if (mustOpen) return await openRemote(options);
  const kind = isHttpUrl(options.url) ? 'http' : 'dir';
  const late = (why: string, opening?: Promise<Remote>): Remote => {
    logbook.log('warn', `the remote cannot be opened, serving what is here: ${why}`);
    onLate?.(why);
    return new LateRemote({ kind, displayName }, () => openRemote(options), opening);
  };
  const opening = openRemote(options);
  using overdue = deadline(openMaxMs);
  try {
    return await abandonOnAbort(opening, overdue.signal);
  } catch (error) {
    if (overdue.signal.aborted) return late(`no answer within ${openMaxMs} ms`, opening);
    const { code, message } = toEbbError(error);
    if (code === 'EINVAL') throw error;
    return late(message);
  }
}
