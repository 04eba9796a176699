/** What a benchmark is: metrics, for whom, and one run that gives a sample of each. */
import type { HandlePeer } from './handles.ts';
import type { Origin } from './origin.ts';
import type { Reader } from './measure.ts';
import type { BenchImages, ImagePeer } from './image-peer.ts';
import type { OriginPeer } from './peer.ts';
import type { TreePeer } from './tree-program.ts';

export type PeerName = OriginPeer | HandlePeer | ImagePeer | TreePeer;

export interface Metric {
  readonly key: string;
  /** For the table, with the unit. */
  readonly label: string;
  readonly better: 'lower' | 'higher';
  /** Digits after the decimal point. */
  readonly digits: number;
}

export interface BenchContext {
  readonly origin: Origin;
  readonly images: BenchImages;
  readonly reader: Reader;
  readonly quick: boolean;
}

/** Values by metric key; absent where the peer has no figure. */
export type Sample = Readonly<Record<string, number>>;

export interface Scenario<Peer extends PeerName = OriginPeer> {
  /** As given on the command line. */
  readonly name: string;
  readonly title: string;
  readonly metrics: readonly Metric[];
  /** Who takes part, in the order of the table's columns. */
  readonly peers: readonly Peer[];
  /** Samples per peer; the median is shown. */
  readonly runs: number;
  run(context: BenchContext, peer: Peer): Promise<Sample>;
}

export const everybody: readonly OriginPeer[] = ['native', 'ebb', 'httpdirfs', 'rclone'];
export const remoteOnly: readonly OriginPeer[] = ['ebb', 'httpdirfs', 'rclone'];
