/** The verbs: name, summary for the overview, and how to load the module, which happens only when it is used. */
import type { Verb } from './verb.ts';

export const verbSummaries = {
  mount: 'make a remote directory appear as a local one',
  umount: 'take a mount away again',
  attach: 'make a directory hold what a remote has',
  detach: 'end an attached tree: keep it hidden, or recall all of it',
  pool: 'a file system for trees, in a file',
  image: 'look into a disk image without trusting it',
  demo: 'show what Ebb does, on this machine, in a minute',
  status: 'what is mounted and how it is doing',
  ls: 'list files with their state: remote only, partly here, here',
  find: 'find files by state, size, name, age',
  du: 'remote and local sizes of directories',
  get: 'bring content here',
  release: 'free local copies; the names stay',
  pin: 'keep files: never release them to make room',
  unpin: 'let files be released again',
  explain: 'say why a file is in the state it is in',
  handle: 'tokens that open files whatever their names will be',
  open: 'read a file by its token',
  verify: 'compare local content with what the remote says about it',
  doctor: 'check whether this machine can mount, and what is missing',
  top: 'live view of recalls and who causes them',
  log: 'what the daemon has done',
  daemon: 'replace the daemon of a mount, which stays',
  rebuild: 'make the catalog of a cache anew from its files',
  refresh: 'ask the remote again now',
} as const;

export type VerbName = keyof typeof verbSummaries;

export const verbLoaders: Readonly<Record<VerbName, () => Promise<Verb>>> = {
  mount: async () => (await import('./verbs/mount.ts')).mount,
  umount: async () => (await import('./verbs/umount.ts')).umount,
  attach: async () => (await import('./verbs/attach.ts')).attach,
  detach: async () => (await import('./verbs/detach.ts')).detach,
  pool: async () => (await import('./verbs/pool.ts')).pool,
  image: async () => (await import('./verbs/image.ts')).image,
  demo: async () => (await import('./verbs/demo.ts')).demo,
  status: async () => (await import('./verbs/status.ts')).status,
  ls: async () => (await import('./verbs/ls.ts')).ls,
  find: async () => (await import('./verbs/find.ts')).find,
  du: async () => (await import('./verbs/du.ts')).du,
  get: async () => (await import('./verbs/get.ts')).get,
  release: async () => (await import('./verbs/release.ts')).release,
  pin: async () => (await import('./verbs/pin.ts')).pin,
  unpin: async () => (await import('./verbs/unpin.ts')).unpin,
  explain: async () => (await import('./verbs/explain.ts')).explain,
  handle: async () => (await import('./verbs/handle.ts')).handle,
  open: async () => (await import('./verbs/open.ts')).open,
  verify: async () => (await import('./verbs/verify.ts')).verify,
  doctor: async () => (await import('./verbs/doctor.ts')).doctor,
  top: async () => (await import('./verbs/top.ts')).top,
  log: async () => (await import('./verbs/log.ts')).log,
  daemon: async () => (await import('./verbs/daemon.ts')).daemon,
  rebuild: async () => (await import('./verbs/rebuild.ts')).rebuild,
  refresh: async () => (await import('./verbs/refresh.ts')).refresh,
};

/** Starts what the verb will need while it is itself being loaded, where people feel that wait. */
export async function startAheadOf(name: VerbName, argv: readonly string[]): Promise<void> {
  if (name === 'image') (await import('./image/service.ts')).startImageServiceAhead(argv);
}
