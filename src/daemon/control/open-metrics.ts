/** Text for /metrics in the OpenMetrics 1.0 exposition format. Pure. */

export interface MetricSample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface MetricFamily {
  /** `ebb_recalled_bytes`; a counter's samples get `_total` appended, as the format wants. */
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  /** Unit suffix of the name when it has one: `bytes`, `seconds`. */
  readonly unit?: string;
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

export const openMetricsContentType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** A gauge without labels. */
export function gauge(name: string, help: string, value: number): MetricFamily {
  return { name, type: 'gauge', help, samples: [{ value }] };
}

/** A counter without labels; `name` without `_total`. */
export function counter(name: string, help: string, value: number): MetricFamily {
  return { name, type: 'counter', help, samples: [{ value }] };
}

/** Renders families, in order, with the closing `# EOF`. Values that are not finite become NaN or ±Inf. */
export function renderOpenMetrics(families: readonly MetricFamily[]): string {
  const lines: string[] = [];
  for (const family of families) {
    lines.push(`# TYPE ${family.name} ${family.type}`);
    if (family.unit !== undefined) lines.push(`# UNIT ${family.name} ${family.unit}`);
    lines.push(`# HELP ${family.name} ${escapeText(family.help)}`);
    const name = family.type === 'counter' ? `${family.name}_total` : family.name;
    for (const sample of family.samples) {
      lines.push(`${name}${renderLabels(sample.labels)} ${renderValue(sample.value)}`);
    }
  }
  lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function renderLabels(labels: Readonly<Record<string, string>> | undefined): string {
  const entries = Object.entries(labels ?? {});
  if (entries.length === 0) return '';
  return `{${entries.map(([key, value]) => `${key}="${escapeText(value)}"`).join(',')}}`;
}

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function renderValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  return String(value);
}
