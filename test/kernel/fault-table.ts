/** The faults of an origin that a mount has to survive, and what a reader may get out of each. */
import type { OriginFault } from '../support/lying-origin.ts';

export interface FaultCase {
  readonly name: string;
  readonly fault: OriginFault;
  /** More of them at the same time. */
  readonly also?: readonly OriginFault[];
  /**
   * While the fault lasts, a reader of a cold file gets: `bytes` (the fault can be worked around, so it must be),
   * `error` (nothing else would be honest), or `either`.
   */
  readonly outcome: 'bytes' | 'error' | 'either';
  /** Requests that it applies to; absent: until the fault is lifted. */
  readonly times?: number;
  /** Requests for a file's range only, so that size and version are known already. */
  readonly rangedOnly?: boolean;
  /** The size that is shown is the lie: only the start of the file can be judged. */
  readonly startOnly?: boolean;
}

const rangeFaults: readonly FaultCase[] = [
  { name: 'range-ignored', fault: { kind: 'ignoreRange' }, outcome: 'bytes' },
  { name: 'range-ignored-once', fault: { kind: 'ignoreRange' }, outcome: 'bytes', times: 1 },
  {
    name: 'range-shifted',
    fault: { kind: 'shiftRange', byBytes: 512 },
    outcome: 'error',
    rangedOnly: true,
  },
  {
    name: 'range-shifted-once',
    fault: { kind: 'shiftRange', byBytes: -4096 },
    outcome: 'bytes',
    times: 1,
    rangedOnly: true,
  },
  { name: 'range-total-wrong', fault: { kind: 'wrongTotal', totalBytes: 99 }, outcome: 'either' },
  { name: 'range-total-unknown', fault: { kind: 'unknownTotal' }, outcome: 'either' },
  { name: 'range-not-named', fault: { kind: 'noContentRange' }, outcome: 'either' },
  { name: 'range-multipart', fault: { kind: 'multipart' }, outcome: 'either' },
];

const connectionFaults: readonly FaultCase[] = [
  { name: 'cut-once', fault: { kind: 'cut', afterBytes: 100_000 }, outcome: 'bytes', times: 1 },
  {
    name: 'reset-once',
    fault: { kind: 'cut', afterBytes: 5000, reset: true },
    outcome: 'bytes',
    times: 1,
  },
  { name: 'cut-always', fault: { kind: 'cut', afterBytes: 100_000 }, outcome: 'either' },
  { name: 'cut-at-once', fault: { kind: 'cut', afterBytes: 0 }, outcome: 'error' },
  { name: 'cut-before-headers', fault: { kind: 'cutBeforeHeaders' }, outcome: 'error' },
  {
    name: 'cut-before-headers-once',
    fault: { kind: 'cutBeforeHeaders', reset: true },
    outcome: 'bytes',
    times: 1,
  },
  { name: 'stalled-headers', fault: { kind: 'stallHeaders' }, outcome: 'error' },
  { name: 'stalled-body', fault: { kind: 'stallBody', afterBytes: 3000 }, outcome: 'either' },
  { name: 'stalled-once', fault: { kind: 'stallHeaders' }, outcome: 'either', times: 1 },
  { name: 'dripping', fault: { kind: 'drip', bytesPerSecond: 2000 }, outcome: 'either' },
  { name: 'slow', fault: { kind: 'latency', latencyMs: 700 }, outcome: 'bytes' },
];

const bodyFaults: readonly FaultCase[] = [
  { name: 'body-short', fault: { kind: 'short', byBytes: 1000 }, outcome: 'either' },
  { name: 'body-short-once', fault: { kind: 'short', byBytes: 1 }, outcome: 'bytes', times: 1 },
  { name: 'body-long', fault: { kind: 'long', byBytes: 1000 }, outcome: 'either' },
  { name: 'body-chunked', fault: { kind: 'chunked' }, outcome: 'bytes' },
  {
    name: 'body-chunked-cut',
    fault: { kind: 'chunked', cutAfterBytes: 2000 },
    outcome: 'either',
  },
  { name: 'body-until-close', fault: { kind: 'closeDelimited' }, outcome: 'either' },
  { name: 'body-gzip', fault: { kind: 'gzip' }, outcome: 'either' },
  { name: 'body-html', fault: { kind: 'htmlPage' }, outcome: 'either' },
  {
    name: 'body-html-for-a-range',
    fault: { kind: 'htmlPage' },
    outcome: 'error',
    rangedOnly: true,
  },
  { name: 'garbage', fault: { kind: 'garbage' }, outcome: 'error' },
  { name: 'sent-to-login', fault: { kind: 'loginRedirect' }, outcome: 'error', rangedOnly: true },
  { name: 'redirect-loop', fault: { kind: 'redirectLoop' }, outcome: 'error' },
  { name: 'early-hints', fault: { kind: 'informational', count: 2 }, outcome: 'bytes' },
];

const statuses = [400, 401, 403, 404, 408, 410, 412, 416, 429, 500, 502, 503, 504] as const;

const statusFaults: readonly FaultCase[] = [
  ...statuses.map((status): FaultCase => ({
    name: `status-${status}`,
    fault: { kind: 'status', status },
    outcome: 'error',
  })),
  {
    name: 'status-503-once',
    fault: { kind: 'status', status: 503, retryAfter: '1' },
    outcome: 'bytes',
    times: 1,
  },
  { name: 'status-500-once', fault: { kind: 'status', status: 500 }, outcome: 'bytes', times: 1 },
  { name: 'status-206-to-all', fault: { kind: 'status', status: 206 }, outcome: 'error' },
  { name: 'status-204', fault: { kind: 'status', status: 204 }, outcome: 'error' },
];

const versionFaults: readonly FaultCase[] = [
  { name: 'etag-changes-always', fault: { kind: 'changingEtag' }, outcome: 'either' },
  { name: 'etag-missing', fault: { kind: 'noEtag' }, outcome: 'bytes' },
  { name: 'etag-weak', fault: { kind: 'etag', value: 'W/"weak"' }, outcome: 'bytes' },
  { name: 'last-modified-missing', fault: { kind: 'noLastModified' }, outcome: 'bytes' },
  {
    name: 'no-version-at-all',
    fault: { kind: 'noEtag' },
    also: [{ kind: 'noLastModified' }],
    outcome: 'bytes',
  },
  { name: 'head-refused', fault: { kind: 'headRefused' }, outcome: 'bytes' },
  {
    name: 'head-lies-about-size',
    fault: { kind: 'headLies', sizeBytes: 77 },
    outcome: 'either',
    startOnly: true,
  },
  { name: 'head-lies-about-etag', fault: { kind: 'headLies', etag: '"x"' }, outcome: 'either' },
];

/** All of them. */
export const faultCases: readonly FaultCase[] = [
  ...rangeFaults,
  ...connectionFaults,
  ...bodyFaults,
  ...statusFaults,
  ...versionFaults,
];
