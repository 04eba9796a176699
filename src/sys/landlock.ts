/** Landlock: a thread gives up the file system, but for what lies below some paths (Linux 5.13; linux/landlock.h). */
import { OpenFlag, openFd, OwnedFd } from './fd.ts';
import { bind, lazily, orErrno, orThrow } from './ffi.ts';

const SYS_landlock_create_ruleset = 444;
const SYS_landlock_add_rule = 445;
const SYS_landlock_restrict_self = 446;
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_RULE_PATH_BENEATH = 1;

/** Rights of the file system that each version of the interface knows, as a mask. */
const fileRights = [0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff];
/** Bind and connect of TCP, since version 4. */
const networkRights = 0b11;
/** Abstract unix sockets and signals to outside of the domain, since version 6. */
const scopes = 0b11;

export const LandlockRight = { execute: 1, readFile: 4, readDirectory: 8 } as const;

const native = lazily(() => ({
  create: bind<
    (number: number, attributes: Uint8Array | null, size: number, flags: number) => number
  >('long syscall(long number, const void *attr, size_t size, unsigned int flags)'),
  add: bind<
    (number: number, ruleset: number, type: number, rule: Uint8Array, flags: number) => number
  >('long syscall(long number, int fd, int type, const void *attr, unsigned int flags)'),
  restrict: bind<(number: number, ruleset: number, flags: number) => number>(
    'long syscall(long number, int fd, unsigned int flags)',
  ),
}));

/** The kernel's version of the interface; 0 where it has none, or not switched on. */
export function landlockVersion(): number {
  const result = orErrno(
    native().create(SYS_landlock_create_ruleset, null, 0, LANDLOCK_CREATE_RULESET_VERSION),
  );
  return Math.max(0, result);
}

export interface LandlockRule {
  readonly path: string;
  /** `LandlockRight` bits; for a file only execute and readFile. */
  readonly rights: number;
}

/**
 * Confines the calling thread and all that it starts, for good: only what the rules allow, no TCP, no signals to
 * others. Paths that do not exist allow nothing. Needs `forbidNewPrivileges`. Returns the version that was used, 0: the
 * kernel has no Landlock and nothing changed.
 */
export function confineToPaths(rules: readonly LandlockRule[]): number {
  const version = landlockVersion();
  if (version === 0) return 0;
  const all = fileRights[Math.min(version, fileRights.length - 1)] ?? 0;
  // struct landlock_ruleset_attr { u64 handled_access_fs; u64 handled_access_net; u64 scoped; }
  const attributes = BigUint64Array.of(
    BigInt(all),
    BigInt(version >= 4 ? networkRights : 0),
    BigInt(version >= 6 ? scopes : 0),
  );
  const sizeBytes = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  const bytes = new Uint8Array(attributes.buffer);
  const created = native().create(SYS_landlock_create_ruleset, bytes, sizeBytes, 0);
  using ruleset = new OwnedFd(orThrow(created, 'landlock_create_ruleset'));
  for (const rule of rules) addRule(ruleset.fd, rule);
  orThrow(native().restrict(SYS_landlock_restrict_self, ruleset.fd, 0), 'landlock_restrict_self');
  return version;
}

function addRule(ruleset: number, { path, rights }: LandlockRule): void {
  let opened: OwnedFd;
  try {
    opened = openFd(path, OpenFlag.path);
  } catch {
    return;
  }
  using target = opened;
  // struct landlock_path_beneath_attr { u64 allowed_access; s32 parent_fd; } packed
  const rule = new DataView(new ArrayBuffer(12));
  rule.setBigUint64(0, BigInt(rights), true);
  rule.setInt32(8, target.fd, true);
  const bytes = new Uint8Array(rule.buffer);
  const result = native().add(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, bytes, 0);
  orThrow(result, 'landlock_add_rule', path);
}
