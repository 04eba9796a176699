/**
 * Sizes, durations, rates and percentages between people and the program. Sizes are binary: K, KB
 * and KiB all mean 1024 bytes, as for `ls -h`, `du -h` and `df -h`.
 */
import { ebbError } from './errors.ts';

const sizeUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;
const sizePattern = /^(\d+(?:\.\d+)?)\s*([kmgtpe]?)(?:i?b)?$/i;

const durationUnitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/**
 * `'10G'`, `'512KiB'`, `'1.5 TB'`, `'4096'` -> whole bytes below 2^53. Throws EINVAL with a
 * sentence.
 */
export function parseSizeBytes(text: string): number {
  const match = sizePattern.exec(text.trim());
  if (match === null) {
    throw ebbError('EINVAL', `'${text}' is not a size; write for example 10G or 512KiB.`);
  }
  const exponent = match[2] === '' ? 0 : 'kmgtpe'.indexOf((match[2] as string).toLowerCase()) + 1;
  const sizeBytes = Math.round(Number(match[1]) * 1024 ** exponent);
  if (!Number.isSafeInteger(sizeBytes)) {
    throw ebbError('EINVAL', `'${text}' is too large; the limit is 8 PiB.`);
  }
  return sizeBytes;
}

/** `1536` -> `'1.5 KiB'`; three digits at most before the unit changes. 0 <= sizeBytes. */
export function formatSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  // 1023.95 would be shown as 1024.0.
  while (unit < sizeUnits.length - 1 && value >= (unit === 0 ? 1024 : 1023.95)) {
    value /= 1024;
    unit += 1;
  }
  const shown = unit === 0 ? String(Math.round(value)) : value.toFixed(1);
  return `${shown} ${sizeUnits[unit]}`;
}

/** `'5%'`, `'12.5 %'` -> 0.05, 0.125. Throws EINVAL outside 0 % .. 100 %. */
export function parsePercent(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim());
  const percent = match === null ? Number.NaN : Number(match[1]);
  if (!(percent >= 0 && percent <= 100)) {
    throw ebbError('EINVAL', `'${text}' is not a percentage from 0% to 100%.`);
  }
  return percent / 100;
}

/** A size, or a percentage of `totalBytes`: `'10G'`, `'5%'`. Throws EINVAL. */
export function parseSizeOrPercentBytes(text: string, totalBytes: number): number {
  if (!text.trim().endsWith('%')) return parseSizeBytes(text);
  return Math.floor(parsePercent(text) * totalBytes);
}

/** 0.1234 -> `'12%'`. Shows 100% only when all is done, 0% only when nothing is. */
export function formatPercent(fraction: number): string {
  if (fraction <= 0) return '0%';
  if (fraction >= 1) return '100%';
  return `${Math.min(99, Math.max(1, Math.round(fraction * 100)))}%`;
}

/**
 * `'30s'`, `'5m'`, `'1h30m'`, `'500ms'`, `'2d'`; a bare number means seconds. -> ms. Throws EINVAL.
 */
export function parseDurationMs(text: string): number {
  const trimmed = text.trim().toLowerCase();
  let durationMs = Number.NaN;
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) {
    durationMs = Number(trimmed) * 1000;
  } else if (/^(?:\d+(?:\.\d+)?\s*(?:ms|[smhdw])\s*)+$/.test(trimmed)) {
    durationMs = 0;
    for (const [, value, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)\s*(ms|[smhdw])/g)) {
      durationMs += Number(value) * (durationUnitsMs[unit ?? ''] ?? Number.NaN);
    }
  }
  if (!Number.isSafeInteger(Math.round(durationMs))) {
    throw ebbError('EINVAL', `'${text}' is not a duration; write for example 30s, 5m or 1h30m.`);
  }
  return Math.round(durationMs);
}

/** `90_000` -> `'1m 30s'`: the two largest units; below a minute one decimal, below a second ms. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 999.5) return `${Math.round(durationMs)}ms`;
  if (durationMs < 59_950) return `${(durationMs / 1000).toFixed(1)}s`;
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${pad(seconds % 60)}s`;
  const minutes = Math.round(durationMs / 60_000);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
  const hours = Math.round(durationMs / 3_600_000);
  return `${Math.floor(hours / 24)}d ${pad(hours % 24)}h`;
}

/** `'10M'`, `'512KiB/s'` -> bytes per second. Throws EINVAL. */
export function parseRate(text: string): number {
  return parseSizeBytes(text.trim().replace(/\/s$/i, ''));
}

/** Bytes per second -> `'12.3 MiB/s'`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatSize(bytesPerSecond)}/s`;
}

/** Time that the rest will take at this rate: `'1m 30s'`; `'--'` while nothing is known. */
export function formatEta(remainingBytes: number, bytesPerSecond: number): string {
  if (remainingBytes <= 0) return formatDuration(0);
  if (!(bytesPerSecond > 0)) return '--';
  return formatDuration((remainingBytes / bytesPerSecond) * 1000);
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}
