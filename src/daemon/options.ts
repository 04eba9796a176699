/** The daemon's configuration: what `ebb mount` sent, checked, with every default in one place. */
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { ebbError } from '../base/errors.ts';
import { isHttpUrl, withoutCredentials } from '../base/http-url.ts';
import type { MountOptions } from './start-api.ts';

export const optionDefaults = {
  ttlMs: 60_000,
  deadlineMs: 60_000,
  connectTimeoutMs: 10_000,
  retries: 4,
  connections: 16,
  readAheadMaxBytes: 64 * 1024 * 1024,
  fileMode: 0o444,
  directoryMode: 0o555,
} as const;

export const positive = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
export const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const permissions = v.pipe(natural, v.maxValue(0o7777));
export const absolutePath = v.pipe(
  v.string(),
  v.check((text) => path.isAbsolute(text), 'must be an absolute path'),
);

/** `RemoteAccess` with its defaults. */
export const remoteAccessEntries = {
  user: v.optional(v.string()),
  password: v.optional(v.string()),
  bearerToken: v.optional(v.string()),
  headers: v.optional(v.record(v.string(), v.string())),
  proxy: v.optional(v.string()),
  caFile: v.optional(v.string()),
  clientCertificateFile: v.optional(v.string()),
  clientKeyFile: v.optional(v.string()),
  insecure: v.optional(v.boolean(), false),
  connectTimeoutMs: v.optional(positive, optionDefaults.connectTimeoutMs),
  deadlineMs: v.optional(positive, optionDefaults.deadlineMs),
  retries: v.optional(natural, optionDefaults.retries),
  connections: v.optional(positive, optionDefaults.connections),
  readAheadMaxBytes: v.optional(natural, optionDefaults.readAheadMaxBytes),
  limitBytesPerSecond: v.optional(positive),
} as const;

const schema = v.strictObject({
  ...remoteAccessEntries,
  remote: v.pipe(v.string(), v.nonEmpty()),
  mountPoint: absolutePath,
  cacheDirectory: v.optional(absolutePath),
  cacheSizeBytes: v.optional(positive),
  minFreeBytes: v.optional(natural),
  ttlMs: v.optional(natural, optionDefaults.ttlMs),
  fileMode: v.optional(permissions, optionDefaults.fileMode),
  directoryMode: v.optional(permissions, optionDefaults.directoryMode),
  uid: v.optional(natural),
  gid: v.optional(natural),
  passthrough: v.optional(v.boolean(), true),
  allowOther: v.optional(v.boolean()),
  noExec: v.optional(v.boolean(), false),
  newHandles: v.optional(v.boolean(), false),
  unprivileged: v.optional(v.boolean(), false),
  standby: v.optional(v.boolean(), true),
  logLevel: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
  foreground: v.optional(v.boolean(), false),
});

export type Configuration = v.InferOutput<typeof schema> & { readonly cacheDirectory: string };

/** Parses the line on standard input. EINVAL with a sentence that names the option. */
export function parseOptions(line: string): Configuration {
  const options = parseLine(schema, line);
  return {
    ...options,
    cacheDirectory: options.cacheDirectory ?? defaultCacheDirectory(options.remote),
  };
}

/** One line of JSON by its schema. EINVAL with a sentence that names the option. */
export function parseLine<Output>(
  lineSchema: v.GenericSchema<unknown, Output>,
  line: string,
): Output {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw ebbError('EINVAL', 'the daemon was started without its options', { cause: error });
  }
  const result = v.safeParse(lineSchema, value);
  if (!result.success) {
    const issue = result.issues[0];
    const name = v.getDotPath(issue) ?? 'options';
    throw ebbError('EINVAL', `option ${name}: ${issue.message}`);
  }
  return result.output;
}

/**
 * One cache directory per remote, so that the same remote mounted again finds its content. Credentials and a
 * trailing slash are not part of a remote's identity.
 */
export function defaultCacheDirectory(remote: string, uid = process.getuid?.() ?? 0): string {
  const base =
    uid === 0
      ? '/var/cache/ebb'
      : path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'ebb');
  return path.join(
    base,
    createHash('sha256').update(remoteIdentity(remote)).digest('hex').slice(0, 16),
  );
}

/** The remote's name without credentials and trailing slashes. */
export function remoteIdentity(remote: string): string {
  if (!isHttpUrl(remote)) return path.resolve(remote.replace(/^file:\/\//, ''));
  const url = new URL(withoutCredentials(remote));
  url.hash = '';
  return url.href.replace(/\/+$/, '');
}

/** What the options mean for the type of the object sent by the CLI: kept in step by the compiler. */
export type OptionsAgree = MountOptions extends v.InferInput<typeof schema> ? true : never;
