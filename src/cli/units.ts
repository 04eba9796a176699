/** Sizes, durations, rates and times as people write and read them. Pure. */
import { UsageError } from './verb.ts';

const binarySuffixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/**
 * Parses a size: a number and an optional suffix. `K M G T P` and `KiB MiB ...` count in 1,024s, `KB MB ...` in
 * 1,000s (as dd(1) and coreutils do). Returns whole bytes; throws UsageError naming `what`.
 */
export function parseSize(text: string, what: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGTPE])(i?B)?|B)?$/i.exec(text.trim());
  const power = binarySuffixes.indexOf((match?.[2] ?? '').toUpperCase());
  const base = (match?.[3] ?? '').toLowerCase() === 'b' ? 1000 : 1024;
  const bytes = Math.round(Number(match?.[1]) * base ** power);
  if (match === null || !Number.isSafeInteger(bytes)) {
    throw new UsageError(`${what} wants a size such as 512M, 20G or 1.5T, not "${text}"`);
  }
  return bytes;
}

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** Parses a duration such as `500ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds. Returns ms. */
export function parseDuration(text: string, what: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|d|w)?$/i.exec(text.trim());
  const unit = durationUnits[(match?.[2] ?? 's').toLowerCase()] ?? Number.NaN;
  const milliseconds = Math.round(Number(match?.[1]) * unit);
  if (match === null || !Number.isSafeInteger(milliseconds)) {
    throw new UsageError(`${what} wants a duration such as 30s, 5m or 1h, not "${text}"`);
  }
  return milliseconds;
}

/** Parses an octal permission mode, 0 .. 0o7777. */
export function parseMode(text: string, what: string): number {
  if (!/^0?[0-7]{1,4}$/.test(text)) {
    throw new UsageError(`${what} wants an octal mode such as 0644, not "${text}"`);
  }
  return Number.parseInt(text, 8);
}

/** Parses a whole number within bounds. */
export function parseCount(text: string, what: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value < min || value > max) {
    throw new UsageError(`${what} wants a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}

/** `0 B`, `999 B`, `1.0 KiB`, `23 MiB`: at most four digits, so columns stay narrow. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`;
  let value = bytes;
  let power = 0;
  while (value >= 1023.5 && power < binarySuffixes.length - 1) {
    value /= 1024;
    power += 1;
  }
  const digits = value < 9.95 ? value.toFixed(1) : value.toFixed(0);
  return `${digits} ${binarySuffixes[power] ?? ''}iB`;
}

/** The narrow form of ls -h: `999`, `1.0K`, `23M`. */
export function formatBytesShort(bytes: number): string {
  return formatBytes(bytes).replace(' B', '').replace(' ', '').replace('iB', '');
}

/** `290 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `12 ms`, `8.3 s`, `4:05`, `3:02:11`, `2d 03:00`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  if (days > 0) return `${days}d ${two(hours)}:${two(minutes)}`;
  if (hours > 0) return `${hours}:${two(minutes)}:${two(seconds % 60)}`;
  return `${minutes}:${two(seconds % 60)}`;
}

/** `2026-11-21 08:15` in local time, as ls --time-style=long-iso. */
export function formatTime(milliseconds: number): string {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return '?';
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** `12,345`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** `1 file`, `12,345 files`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
