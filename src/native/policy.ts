/**
 * What is to be done for one event: pure functions from what is known of file, requester and system call to a
 * decision. Total: every combination has an answer. The order of the questions is the order of importance: bytes
 * that could be wrong first, then what the configuration says, then economy.
 */
import { BoundedMap } from '../base/bounded-map.ts';
import { globMatcher } from '../base/glob.ts';
import type { NativePolicy, NativeVerdict, VerdictRule } from './options.ts';
import type { Effect } from './syscall.ts';

const MiB = 1024 * 1024;

/**
 * Programs that ask for holes (SEEK_DATA, FIEMAP) before they read, or may: without poison they would take what is
 * not here for zeros. No event announces the question, so they get whole files at open.
 */
const holeProbers = (
  'cp mv install tar gtar bsdtar bsdcpio cpio pax star rsync dd gcp gmv ginstall busybox xcp ' +
  // It takes a text that has a hole for a binary file.
  'grep ggrep ' +
  'qemu-img qemu-nbd qemu-storage-daemon nbdkit virt-sparsify mke2fs mkfs.ext4 mkfs.erofs mkfs.xfs debugfs ' +
  'ddrescue bmaptool ostree ' +
  // They look for holes where their clients do (nfsd is the kernel's), and machines where their disks are copied.
  'nfsd ganesha.nfsd smbd virtiofsd glusterfsd qemu-kvm qemu-system-x86_64 qemu-system-i386 ' +
  'qemu-system-aarch64 qemu-system-arm qemu-system-ppc64 qemu-system-riscv64 qemu-system-s390x'
).split(' ');

function rules(verdict: NativeVerdict, executables: string): VerdictRule[] {
  return executables.split(' ').map((executable) => ({ executable, verdict }));
}

export const defaultNativePolicy: NativePolicy = Object.freeze({
  wholeFileMaxBytes: MiB,
  executableWholeMaxBytes: 64 * MiB,
  holeProbers,
  verdicts: [
    // Indexers and thumbnailers read everything that is there, unasked: they would bring it all here.
    ...rules(
      { deny: 'EPERM' },
      'updatedb updatedb.* plocate-build tracker-extract* tracker-miner-f* tracker-store localsearch* ' +
        'baloo_file* recollindex tumblerd *-thumbnailer ffmpegthumbnailer thumbnail.so kioslave*thumbnail*',
    ),
    // Virus scanners decide by a few blocks of many files: what they ask for, and no more.
    ...rules(
      'exact',
      'clamd clamscan clamdscan clamonacc wdavdaemon savd savscand sophos* falcon-sensor*',
    ),
    // Backups read every byte anyway: one request instead of many.
    ...rules(
      'whole',
      'restic borg kopia duplicity duplicacy bacula-fd bareos-fd dsmc rdiff-backup bup rsnapshot ' +
        'urbackupclientbackend veeamagent amandad',
    ),
    // The kernel reads the files of loop devices, and those that are sealed with fs-verity, without any event.
    ...rules(
      'whole',
      'losetup mount udisksd kpartx cryptsetup veritysetup systemd-dissect systemd-nspawn systemd-sysext ' +
        'systemd-portabled systemd-homework snapd starter-suid fsverity',
    ),
  ],
  deadlineMs: 300_000,
});

/** Which verdict a program gets. Remembers the last programs it was asked about. */
export class Verdicts {
  readonly #rules: readonly { matches: (text: string) => boolean; rule: VerdictRule }[];
  readonly #holeProbers: ReadonlySet<string>;
  readonly #known = new BoundedMap<string, NativeVerdict>(verdictsKnownMax);

  constructor(policy: Pick<NativePolicy, 'verdicts' | 'holeProbers'>) {
    this.#rules = policy.verdicts.map((rule) => ({
      rule,
      matches: globMatcher(rule.executable),
    }));
    this.#holeProbers = new Set(policy.holeProbers);
  }

  /** By the executable's path and base name, and by the thread's name: for scripts, that names the script. */
  of(executable: string | undefined, threadName: string): NativeVerdict {
    const question = `${executable ?? ''}\0${threadName}`;
    const known = this.#known.get(question);
    if (known !== undefined) return known;
    const names = [baseName(executable ?? ''), threadName].filter((name) => name !== '');
    const found = this.#rules.find(({ rule, matches }) =>
      rule.executable.includes('/') ? matches(executable ?? '') : names.some(matches),
    );
    const verdict = found?.rule.verdict ?? 'allow';
    this.#known.set(question, verdict);
    return verdict;
  }

  /** By the same names as `of`: where one program is all of them (busybox, coreutils), the thread's tells which. */
  looksForHoles(executable: string | undefined, threadName: string): boolean {
    const probers = this.#holeProbers;
    return probers.has(baseName(executable ?? '')) || probers.has(threadName);
  }
}

/** Programs whose verdict is remembered. */
const verdictsKnownMax = 1024;

function baseName(executable: string): string {
  return executable.slice(executable.lastIndexOf('/') + 1);
}

/** Of st_mode: somebody may execute it. */
export const executableBits = 0o111;

/** How far a file is from being the user's own (docs/native.md). */
export type FileState =
  /** All of it is here and nothing of it will be recalled: complete, or let to a writer, or the user's own. */
  | 'settled'
  | 'clean'
  /** A writer that empties it was let in, and whether it did is not known yet. */
  | 'discarding';

export interface FileFacts {
  readonly state: FileState;
  /** Of the remote version. */
  readonly versionSizeBytes: number;
  /** Of the local file, now. */
  readonly sizeBytes: number;
  /** All of the version is here. */
  readonly complete: boolean;
  readonly executable: boolean;
  /** It is opened through a mount that nobody sees: no event tells when it is mapped (layers.ts). */
  readonly throughLayer: boolean;
  /** The tree has poison instead of holes. */
  readonly hasPoison: boolean;
}

export interface AskerFacts {
  readonly effect: Effect;
  /** It reads in the order of the file. */
  readonly streams: boolean;
  /** It maps the range. */
  readonly maps: boolean;
  readonly verdict: NativeVerdict;
  readonly looksForHoles: boolean;
}

export type DenyReason = 'EPERM' | 'EIO' | 'EBUSY' | 'EAGAIN';

export type Decision =
  | { readonly kind: 'allow' }
  /** Recall the range (within the file), then allow. */
  | {
      readonly kind: 'recall';
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      /** With read-ahead. */
      readonly stream: boolean;
      /** Nothing beyond the chunks of the range. */
      readonly exact: boolean;
    }
  /** Recall all, record `intent`, then allow. */
  | { readonly kind: 'intend' }
  /** Stop recalling, record `discarding`, then allow. */
  | { readonly kind: 'discard' }
  /** Find out first whether the file was emptied. */
  | { readonly kind: 'wait' }
  /** The local file was changed past us, and nothing is missing in it: record `dirty`, then allow. */
  | { readonly kind: 'disown' }
  /** The local file was cut or grown past us: what is not here cannot be had any more. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'deny'; readonly code: DenyReason };

export type Recall = Extract<Decision, { readonly kind: 'recall' }>;

const allow: Decision = Object.freeze({ kind: 'allow' });
const intend: Decision = Object.freeze({ kind: 'intend' });
const discard: Decision = Object.freeze({ kind: 'discard' });

/** Recall all of a file. */
export function wholeFile(sizeBytes: number): Recall {
  return { kind: 'recall', offsetBytes: 0, lengthBytes: sizeBytes, stream: false, exact: false };
}

/** Somebody opens the file (FAN_OPEN_PERM). */
export function decideOpen(
  file: FileFacts,
  asker: AskerFacts,
  policy: Pick<NativePolicy, 'wholeFileMaxBytes' | 'executableWholeMaxBytes'>,
): Decision {
  const settled = decideUnlessClean(file, asker);
  if (settled !== undefined) return settled;
  const { effect, verdict } = asker;
  if (effect === 'discards') return discard;
  // What an open without a visible system call will do can only be guessed.
  if (effect !== 'reads') return intend;
  const { versionSizeBytes: sizeBytes } = file;
  const whole = wholeFile(sizeBytes);
  if (file.throughLayer || (!file.hasPoison && asker.looksForHoles)) return whole;
  if (verdict === 'exact') return allow;
  if (verdict === 'whole' || sizeBytes <= policy.wholeFileMaxBytes) return whole;
  if (file.executable && sizeBytes <= policy.executableWholeMaxBytes) return whole;
  return allow;
}

/**
 * Somebody is about to use a range (FAN_PRE_ACCESS). `countBytes` 0: to the end, wherever that is (FICLONE). A
 * missing range counts as the whole file.
 */
export function decideAccess(
  file: FileFacts,
  asker: AskerFacts,
  range: { readonly offsetBytes: number; readonly countBytes: number } | undefined,
  policy: Pick<NativePolicy, 'executableWholeMaxBytes'>,
): Decision {
  const settled = decideUnlessClean(file, asker);
  if (settled !== undefined) return settled;
  const { effect, verdict } = asker;
  if (effect === 'discards') return discard;
  if (effect === 'writes' || effect === 'unknown') return intend;
  const { versionSizeBytes: sizeBytes } = file;
  // No event tells when a mapping grows, so whoever maps a part gets all of it, within reason.
  const mapsAll = asker.maps && verdict !== 'exact' && sizeBytes <= policy.executableWholeMaxBytes;
  const whole = range === undefined || range.countBytes === 0 || mapsAll;
  const offsetBytes = whole ? 0 : range.offsetBytes;
  const endBytes = whole ? sizeBytes : Math.min(sizeBytes, offsetBytes + range.countBytes);
  if (offsetBytes >= endBytes) return allow;
  const exact = verdict === 'exact';
  const stream = asker.streams && !whole && !exact;
  return { kind: 'recall', offsetBytes, lengthBytes: endBytes - offsetBytes, stream, exact };
}

/** What does not depend on the kind of event. Undefined: the file is clean and not all here. */
function decideUnlessClean(file: FileFacts, asker: AskerFacts): Decision | undefined {
  if (file.state === 'settled') return allow;
  if (file.state === 'discarding') return asker.effect === 'discards' ? discard : { kind: 'wait' };
  if (file.sizeBytes !== file.versionSizeBytes) {
    // Who cut or grew what was all here has lost nothing, though nobody could record it (a power cut).
    const lacksNothing = file.complete || file.sizeBytes === 0 || asker.effect === 'discards';
    return { kind: lacksNothing ? 'disown' : 'damaged' };
  }
  if (typeof asker.verdict === 'object') return { kind: 'deny', code: asker.verdict.deny };
  return undefined;
}
