/** A tree's configuration: what `ebb attach` sent, checked, with every default in one place. */
import * as v from 'valibot';
import type { AttachOptions } from './start-api.ts';
import { absolutePath, natural, parseLine, permissions, positive } from './options.ts';
import { remoteAccessEntries } from './options.ts';

export const attachDefaults = {
  /** A tree is there to be worked in: unlike a mount its files can be written. */
  fileMode: 0o644,
  directoryMode: 0o755,
  stateDirectory: '/var/lib/ebb/trees',
} as const;

const denials = ['EPERM', 'EIO', 'EBUSY', 'EAGAIN'] as const;
const verdict = v.union([
  v.picklist(['allow', 'exact', 'whole']),
  v.strictObject({ deny: v.picklist(denials) }),
]);
/** More rules than anybody writes: each opening of a file that is not here looks through them. */
const rulesMax = 1_000;

const schema = v.strictObject({
  ...remoteAccessEntries,
  tree: absolutePath,
  remote: v.optional(v.pipe(v.string(), v.nonEmpty())),
  stateDirectory: v.optional(absolutePath),
  cacheSizeBytes: v.optional(positive),
  minFreeBytes: v.optional(natural),
  fileMode: v.optional(permissions, attachDefaults.fileMode),
  directoryMode: v.optional(permissions, attachDefaults.directoryMode),
  uid: v.optional(natural),
  gid: v.optional(natural),
  wholeFileMaxBytes: v.optional(natural),
  executableWholeMaxBytes: v.optional(natural),
  rules: v.optional(
    v.pipe(
      v.array(v.strictObject({ executable: v.pipe(v.string(), v.nonEmpty()), verdict })),
      v.maxLength(rulesMax),
    ),
    [],
  ),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
  remoteMoved: v.optional(v.boolean(), false),
  standby: v.optional(v.boolean(), true),
  foreground: v.optional(v.boolean(), false),
});

export type AttachConfiguration = v.InferOutput<typeof schema>;

/** Parses the line on standard input. EINVAL with a sentence that names the option. */
export function parseAttachOptions(line: string): AttachConfiguration {
  return parseLine(schema, line);
}

/** What the options mean for the type of the object sent by the CLI: kept in step by the compiler. */
export type AttachOptionsAgree = AttachOptions extends v.InferInput<typeof schema> ? true : never;
