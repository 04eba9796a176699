/** fanotify(7) in numbers: linux/fanotify.h of Linux 6.18. The same on all architectures. */

/** FAN_*: what a mark asks for and an event tells. */
export const FanEvent = {
  access: 0x0000_0001,
  modify: 0x0000_0002,
  attrib: 0x0000_0004,
  closeWrite: 0x0000_0008,
  closeNowrite: 0x0000_0010,
  open: 0x0000_0020,
  movedFrom: 0x0000_0040,
  movedTo: 0x0000_0080,
  create: 0x0000_0100,
  delete: 0x0000_0200,
  deleteSelf: 0x0000_0400,
  moveSelf: 0x0000_0800,
  openExec: 0x0000_1000,
  /** Only in events: the queue was full, events are lost. Permission events that found it full were allowed. */
  queueOverflow: 0x0000_4000,
  filesystemError: 0x0000_8000,
  openPermission: 0x0001_0000,
  accessPermission: 0x0002_0000,
  openExecPermission: 0x0004_0000,
  /** FAN_PRE_ACCESS (Linux 6.14): somebody wants to read, write, map or cut a range. Class pre-content only. */
  preAccess: 0x0010_0000,
  mountAttach: 0x0100_0000,
  mountDetach: 0x0200_0000,
  rename: 0x1000_0000,
  /** For marks: also what happens to the entries of the marked directory. */
  onChild: 0x0800_0000,
  /** For marks: also directories. In events of groups with FID records: it was one. */
  onDirectory: 0x4000_0000,
} as const;

/** Events whose requester waits for an answer. */
export const permissionEvents =
  FanEvent.openPermission |
  FanEvent.accessPermission |
  FanEvent.openExecPermission |
  FanEvent.preAccess;

/** The names of `FanEvent` bits in a mask; unknown bits as one number. */
export function eventNames(mask: number): string[] {
  const names: string[] = [];
  let rest = mask;
  for (const [name, bit] of Object.entries(FanEvent)) {
    if ((mask & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) names.push(`0x${(rest >>> 0).toString(16)}`);
  return names;
}

/** Flags of fanotify_init(2). */
export const GroupFlag = {
  cloexec: 0x1,
  nonblock: 0x2,
  classContent: 0x4,
  classPreContent: 0x8,
  unlimitedQueue: 0x10,
  unlimitedMarks: 0x20,
  enableAudit: 0x40,
  reportPidfd: 0x80,
  reportTid: 0x100,
  reportFid: 0x200,
  reportDirectoryFid: 0x400,
  reportName: 0x800,
  reportTargetFid: 0x1000,
  /** Linux 6.13: an event whose descriptor could not be opened arrives with -errno instead of failing the read. */
  reportFdError: 0x2000,
  reportMount: 0x4000,
} as const;

/** Flags of fanotify_mark(2). */
export const MarkFlag = {
  add: 0x1,
  remove: 0x2,
  dontFollow: 0x4,
  onlyDirectory: 0x8,
  mount: 0x10,
  ignoredSurvivesModify: 0x40,
  flush: 0x80,
  filesystem: 0x100,
  evictable: 0x200,
  ignore: 0x400,
} as const;

/** FANOTIFY_METADATA_VERSION: the only one this library reads. */
export const metadataVersion = 3;

/** FAN_EVENT_INFO_TYPE_*: records behind an event. */
export const InfoType = {
  fid: 1,
  directoryFidName: 2,
  directoryFid: 3,
  pidfd: 4,
  error: 5,
  range: 6,
  mount: 7,
  oldDirectoryFidName: 10,
  newDirectoryFidName: 12,
} as const;

/** struct fanotify_response { s32 fd; u32 response; }. */
export const responseBytes = 8;
export const responseAllow = 1;
export const responseDeny = 2;
/** FAN_DENY_ERRNO: the errno stands in the top byte (Linux 6.14, class pre-content). */
export const responseErrnoShift = 24;
