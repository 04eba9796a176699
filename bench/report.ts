/** What was measured, as Markdown: medians and ratios, with the machine, the date and the versions they belong to. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { median } from './measure.ts';
import type { Metric, PeerName, Sample, Scenario } from './scenario.ts';

export interface ScenarioResult {
  readonly scenario: Scenario<PeerName>;
  readonly samples: ReadonlyMap<PeerName, readonly Sample[]>;
  /** Why a peer has no figures. */
  readonly failures: ReadonlyMap<PeerName, string>;
}

function output(command: string, ...parameters: string[]): string {
  try {
    const text = execFileSync(command, parameters, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return text.split('\n')[0]?.trim() ?? '';
  } catch {
    return 'not installed';
  }
}

function versionOf(debianPackage: string): string {
  return output('dpkg-query', '-W', '-f', '${Version}\\n', debianPackage);
}

function processorName(): string {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
  return model?.[1] ?? os.arch();
}

/** Facts without which the figures mean nothing. */
function environment(quick: boolean): string[] {
  const memoryGibibytes = (os.totalmem() / 2 ** 30).toFixed(0);
  const packages = ['nginx', 'httpdirfs', 'rclone', 'fuse2fs'].map(
    (name) => `${name} ${versionOf(name)}`,
  );
  return [
    `Date: ${new Date().toISOString().slice(0, 10)}${quick ? ' (quick run: small file, one sample)' : ''}`,
    `Machine: ${os.availableParallelism()} × ${processorName()}, ${memoryGibibytes} GiB, Linux ${os.release()}`,
    `Versions: Node ${process.versions.node}, ${packages.join(', ')} (Debian), libfuse ${versionOf('libfuse3-3')}`,
    'Origin: nginx on loopback, content in its page cache; "20 ms": through a proxy with that round trip.',
    'Cold: mounted afresh with an empty cache. Figures are medians.',
    'In brackets: how many times better Ebb is (below 1: worse).',
  ];
}

function number(value: number, digits: number): string {
  return value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

function valuesOf(result: ScenarioResult, peer: PeerName, metric: Metric): number[] {
  const samples = result.samples.get(peer) ?? [];
  return samples.map((sample) => sample[metric.key]).filter((value) => value !== undefined);
}

function cell(result: ScenarioResult, peer: PeerName, metric: Metric): string {
  const values = valuesOf(result, peer, metric);
  if (values.length === 0) return result.failures.has(peer) ? 'failed' : '–';
  const value = median(values);
  const ours = median(valuesOf(result, 'ebb', metric));
  const shown = number(value, metric.digits);
  if (peer === 'ebb' || !Number.isFinite(ours) || ours === 0 || value === 0) return shown;
  const ratio = metric.better === 'lower' ? value / ours : ours / value;
  return `${shown} (${number(ratio, ratio < 10 ? 2 : 0)}×)`;
}

/** One Markdown section. */
export function section(result: ScenarioResult): string {
  const { scenario, failures } = result;
  const lines = [`## ${scenario.title}`, ''];
  lines.push(`| | ${scenario.peers.join(' | ')} |`);
  lines.push(`|---|${scenario.peers.map(() => '---:').join('|')}|`);
  for (const metric of scenario.metrics) {
    const cells = scenario.peers.map((peer) => cell(result, peer, metric));
    lines.push(`| ${metric.label} | ${cells.join(' | ')} |`);
  }
  for (const [peer, why] of failures) lines.push('', `${peer}: ${why}`);
  return `${lines.join('\n')}\n`;
}

/** The whole document. */
export function document(results: readonly ScenarioResult[], quick: boolean): string {
  const intro = ['# Benchmarks', '', ...environment(quick).map((line) => `- ${line}`), ''];
  return `${intro.join('\n')}\n${results.map(section).join('\n')}`;
}
