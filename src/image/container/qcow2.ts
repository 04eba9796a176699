/**
 * What a qcow2 image holds, as a device. Two levels of tables (L1, L2) say where each cluster is; what they do not
 * mention reads as zeros. Tables are read in pages and kept up to a limit; a table is never trusted beyond one entry,
 * so no loop is possible: two look-ups and a read, whatever the tables say.
 */
import { checkDeviceRange } from '../../ext4/block-device.ts';
import type { BlockDevice, DeviceRange } from '../../ext4/block-device.ts';
import { corrupt } from '../../ext4/errors.ts';
import { inflateCluster } from './compressed-cluster.ts';
import type { Qcow2Header } from './qcow2-header.ts';

/** Where the bytes of one cluster are. */
type Cluster =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'plain'; readonly hostOffsetBytes: number }
  | {
      readonly kind: 'compressed';
      readonly hostOffsetBytes: number;
      readonly hostSizeBytes: number;
    };

const entrySizeBytes = 8;
const sectorSizeBytes = 512;
const tablePageBytes = 64 * 1024;
/** 16 MiB: the tables of 128 GiB in clusters of 64 KiB. */
const tablePagesMax = 256;
const inflatedMaxBytes = 16 * 1024 * 1024;
const prefetchClustersMax = 4096;

const offsetMask = 0x00ff_ffff_ffff_fe00n;
const compressedBit = 1n << 62n;
const zeroBit = 1n;
/** Bits that must be 0: 1 to 8 and 56 to 61 (62: compressed; 63: the cluster has one user). */
const reservedL2 = 0x3f00_0000_0000_01fen;
const reservedL1 = 0x7f00_0000_0000_01ffn;

const zeros: Cluster = { kind: 'zeros' };

export class Qcow2Device implements BlockDevice {
  readonly sizeBytes: number;
  readonly #host: BlockDevice;
  readonly #header: Qcow2Header;
  readonly #pages = new Map<number, DataView>();
  readonly #inflated = new Map<number, Uint8Array>();

  constructor(host: BlockDevice, header: Qcow2Header) {
    this.#host = host;
    this.#header = header;
    this.sizeBytes = header.sizeBytes;
  }

  read(offsetBytes: number, into: Uint8Array): void {
    checkDeviceRange(this, offsetBytes, into.byteLength);
    const { clusterSizeBytes } = this.#header;
    let done = 0;
    while (done < into.byteLength) {
      const at = offsetBytes + done;
      const index = Math.floor(at / clusterSizeBytes);
      const within = at - index * clusterSizeBytes;
      const first = this.#cluster(index);
      let take = Math.min(into.byteLength - done, clusterSizeBytes - within);
      if (first.kind === 'compressed') {
        into.set(this.#inflate(first).subarray(within, within + take), done);
      } else {
        // Neighbours that continue it are read with it.
        let next = index + 1;
        while (done + take < into.byteLength && this.#continues(first, next - index, next)) {
          take += Math.min(into.byteLength - done - take, clusterSizeBytes);
          next += 1;
        }
        const target = into.subarray(done, done + take);
        if (first.kind === 'zeros') target.fill(0);
        else this.#readHost(first.hostOffsetBytes + within, target);
      }
      done += take;
    }
  }

  /** Passes on where the bytes are, as far as the tables are in memory. */
  prefetch(ranges: readonly DeviceRange[]): void {
    if (this.#host.prefetch === undefined) return;
    const { clusterSizeBytes } = this.#header;
    const wanted: DeviceRange[] = [];
    let budget = prefetchClustersMax;
    for (const { offsetBytes, sizeBytes } of ranges) {
      const end = Math.min(offsetBytes + sizeBytes, this.sizeBytes);
      for (let at = offsetBytes; at < end && budget > 0; budget -= 1) {
        const index = Math.floor(at / clusterSizeBytes);
        const within = at - index * clusterSizeBytes;
        const take = Math.min(end - at, clusterSizeBytes - within);
        const cluster = this.#tryCluster(index);
        if (cluster?.kind === 'plain') {
          wanted.push({ offsetBytes: cluster.hostOffsetBytes + within, sizeBytes: take });
        } else if (cluster?.kind === 'compressed') {
          wanted.push({ offsetBytes: cluster.hostOffsetBytes, sizeBytes: cluster.hostSizeBytes });
        }
        at += take;
      }
    }
    if (wanted.length > 0) this.#host.prefetch(wanted);
  }

  #continues(first: Cluster, distance: number, index: number): boolean {
    const { clusterSizeBytes } = this.#header;
    const cluster = this.#cluster(index);
    if (first.kind === 'zeros') return cluster.kind === 'zeros';
    return (
      first.kind === 'plain' &&
      cluster.kind === 'plain' &&
      cluster.hostOffsetBytes === first.hostOffsetBytes + distance * clusterSizeBytes
    );
  }

  #tryCluster(index: number): Cluster | undefined {
    try {
      return this.#cluster(index, true);
    } catch {
      return undefined;
    }
  }

  /** Of a cluster of the guest. `cachedOnly`: throws rather than reads a table. */
  #cluster(index: number, cachedOnly = false): Cluster {
    const { clusterSizeBytes, l1OffsetBytes, l1Entries } = this.#header;
    const perTable = clusterSizeBytes / entrySizeBytes;
    const l1Index = Math.floor(index / perTable);
    const l1End = l1OffsetBytes + l1Entries * entrySizeBytes;
    const l1 = this.#entry(l1OffsetBytes + l1Index * entrySizeBytes, l1End, cachedOnly);
    if ((l1 & reservedL1) !== 0n) throw corrupt(`entry ${l1Index} of the L1 table is not valid`);
    const tableOffset = Number(l1 & offsetMask);
    if (tableOffset === 0) return zeros;
    if (
      tableOffset % clusterSizeBytes !== 0 ||
      tableOffset + clusterSizeBytes > this.#host.sizeBytes
    ) {
      throw corrupt(`L2 table ${l1Index} of the qcow2 image is at ${tableOffset}`);
    }
    const l2Offset = tableOffset + (index - l1Index * perTable) * entrySizeBytes;
    const entry = this.#entry(l2Offset, tableOffset + clusterSizeBytes, cachedOnly);
    return this.#decode(entry, index);
  }

  #decode(entry: bigint, index: number): Cluster {
    const { clusterSizeBytes, version } = this.#header;
    if ((entry & compressedBit) !== 0n) {
      const offsetBits = BigInt(62 - (Math.log2(clusterSizeBytes) - 8));
      const hostOffset = entry & ((1n << offsetBits) - 1n);
      const sectors = Number((entry & (compressedBit - 1n)) >> offsetBits) + 1;
      if (hostOffset === 0n || hostOffset >= BigInt(this.#host.sizeBytes)) {
        throw corrupt(`the compressed cluster ${index} of the qcow2 image is at ${hostOffset}`);
      }
      const hostOffsetBytes = Number(hostOffset);
      // The last sector of an image may be cut off: what counts ends before.
      const hostSizeBytes = Math.min(
        sectors * sectorSizeBytes - (hostOffsetBytes % sectorSizeBytes),
        this.#host.sizeBytes - hostOffsetBytes,
      );
      return { kind: 'compressed', hostOffsetBytes, hostSizeBytes };
    }
    if ((entry & reservedL2) !== 0n) {
      throw corrupt(`the L2 entry of cluster ${index} of the qcow2 image is not valid`);
    }
    const hostOffsetBytes = Number(entry & offsetMask);
    if (hostOffsetBytes % clusterSizeBytes !== 0 || hostOffsetBytes > this.#host.sizeBytes) {
      throw corrupt(`cluster ${index} of the qcow2 image is at ${hostOffsetBytes}`);
    }
    if ((entry & zeroBit) !== 0n) {
      if (version === 2) throw corrupt('a qcow2 image of version 2 has a cluster of zeros');
      return zeros;
    }
    return hostOffsetBytes === 0 ? zeros : { kind: 'plain', hostOffsetBytes };
  }

  #readHost(offsetBytes: number, into: Uint8Array): void {
    if (offsetBytes + into.byteLength > this.#host.sizeBytes) {
      throw corrupt(`the qcow2 image is cut off: it has no bytes from ${this.#host.sizeBytes} on`);
    }
    this.#host.read(offsetBytes, into);
  }

  /** One entry of a table that ends at `endBytes`. */
  #entry(offsetBytes: number, endBytes: number, cachedOnly: boolean): bigint {
    const pageStart = offsetBytes - (offsetBytes % tablePageBytes);
    let page = this.#pages.get(pageStart);
    const within = offsetBytes - pageStart;
    if (page === undefined || page.byteLength < within + entrySizeBytes) {
      if (cachedOnly) throw corrupt('not in memory');
      const size = Math.min(tablePageBytes, this.#host.sizeBytes - pageStart);
      if (offsetBytes + entrySizeBytes > Math.min(endBytes, pageStart + size)) {
        throw corrupt('a table of the qcow2 image is cut off');
      }
      const bytes = new Uint8Array(size);
      this.#host.read(pageStart, bytes);
      page = new DataView(bytes.buffer);
    }
    remember(this.#pages, pageStart, page, tablePagesMax);
    return page.getBigUint64(within);
  }

  #inflate(cluster: Extract<Cluster, { kind: 'compressed' }>): Uint8Array {
    const { clusterSizeBytes, compression } = this.#header;
    let bytes = this.#inflated.get(cluster.hostOffsetBytes);
    if (bytes === undefined) {
      const packed = new Uint8Array(cluster.hostSizeBytes);
      this.#readHost(cluster.hostOffsetBytes, packed);
      bytes = inflateCluster(packed, compression, clusterSizeBytes);
    }
    const countMax = Math.max(1, Math.floor(inflatedMaxBytes / clusterSizeBytes));
    remember(this.#inflated, cluster.hostOffsetBytes, bytes, countMax);
    return bytes;
  }
}

/** Puts it last; the first ones go when there are too many. */
function remember<Value>(map: Map<number, Value>, key: number, value: Value, countMax: number) {
  map.delete(key);
  map.set(key, value);
  if (map.size > countMax) {
    for (const oldest of map.keys()) {
      map.delete(oldest);
      break;
    }
  }
}
