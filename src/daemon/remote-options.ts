/** How a daemon opens its remote. */
import type { openRemote } from '../remote/open-remote.ts';
import type { RemoteAccess } from './start-api.ts';
import type { Logbook } from './logbook.ts';

type RemoteOptions = Parameters<typeof openRemote>[0];

/** Of a configuration, what the remote needs to know. `remote`: URL or directory. */
export function remoteOptions(
  configuration: RemoteAccess & { readonly remote: string },
  logbook: Logbook,
): RemoteOptions {
  const { remote, ...rest } = configuration;
  return { ...rest, url: remote, onRetry: (message: string) => logbook.log('info', message) };
}
