/** What a service manager kept of a service that died and is started again: sd_listen_fds(3). */

export interface KeptDescriptor {
  readonly name: string;
  readonly fd: number;
}

const firstDescriptor = 3;

const variables = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'] as const;

/** Those of this process, once: whoever gets them has to close them, or to give them away. */
export function takeKeptDescriptors(): KeptDescriptor[] {
  const kept = keptDescriptors(process.env, process.pid);
  for (const variable of variables) delete process.env[variable];
  return kept;
}

/** None unless they are meant for the process `pid`. Descriptors without a name are called `unknown`, as there. */
export function keptDescriptors(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): KeptDescriptor[] {
  if (environment['LISTEN_PID'] !== String(pid)) return [];
  const count = Number(environment['LISTEN_FDS']);
  const names = environment['LISTEN_FDNAMES']?.split(':') ?? [];
  if (!Number.isSafeInteger(count) || count < 0) return [];
  return Array.from({ length: count }, (_unused, index) => ({
    name: names[index] ?? 'unknown',
    fd: firstDescriptor + index,
  }));
}
