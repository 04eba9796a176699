/**
 * TCP ports of servers for tests. Not those that the kernel gives to clients: whoever connects somewhere may have got
 * the port in the moment between its being found free and being listened on, or while its server is down for a while.
 */
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';

const loopback = '127.0.0.1';
/** Below what the kernel chooses from (net.ipv4.ip_local_port_range, 32768 by default) and above what services use. */
const lowestPort = 20_000;
const triesMax = 1_000;
const listening = '0A';

/** A port of 127.0.0.1 that was free a moment ago, and that nobody gets who asks the kernel for any port. */
export async function freePort(): Promise<number> {
  const [highest = 0] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1')
    .split(/\s+/)
    .map(Number);
  for (let tries = 0; tries < triesMax; tries += 1) {
    const port = randomInt(lowestPort, Math.max(lowestPort + 1_000, highest));
    if (await isFree(port)) return port;
  }
  throw new Error(`no port of ${triesMax} is free`);
}

function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  return new Promise((resolve) => {
    probe.once('error', () => resolve(false));
    probe.listen(port, loopback, () => probe.close(() => resolve(true)));
  });
}

/** Whether this process itself listens on that port (proc_net_tcp(5), proc_pid_fd(5)). */
export function listensOn(pid: number, port: number): boolean {
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readFileSync(table, 'latin1').split('\n')) {
      const [, address = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === listening && address.endsWith(end)) sockets.add(`socket:[${inode}]`);
    }
  }
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) =>
      sockets.has(linkOf(`/proc/${pid}/fd/${fd}`)),
    );
  } catch {
    // The process has ended.
    return false;
  }
}

function linkOf(place: string): string {
  try {
    return readlinkSync(place);
  } catch {
    return '';
  }
}
