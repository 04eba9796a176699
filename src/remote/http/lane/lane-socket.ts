/** Sockets of the fast lane's connections, and what their failures mean. */
import { connect as connectTcp, isIP } from 'node:net';
import type { OnReadOpts, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

import { damagedCode } from '../errors.ts';
import { LaneError } from './lane-error.ts';

export interface LaneEndpoint {
  readonly host: string;
  readonly port: number;
  /** As for node:tls; undefined: plain TCP. */
  readonly tls: object | undefined;
}

/**
 * What OpenSSL says of a connection that stood is about bytes that came damaged, unless it is an alert: the other side
 * may say only then that it does not take our certificate (TLS 1.3).
 */
export function damaged(error: Error): Error {
  const { code = '' } = error as NodeJS.ErrnoException;
  const isDamage = code.startsWith('ERR_SSL_') && !/_ALERT_(?!BAD_RECORD_MAC)/.test(code);
  return isDamage ? new LaneError(damagedCode, error.message, undefined, error) : error;
}

export function openSocket(endpoint: LaneEndpoint, onread: OnReadOpts): Socket {
  const { host, port, tls } = endpoint;
  if (tls === undefined) return connectTcp({ host, port, onread, noDelay: true });
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const options = { host, port, onread, ALPNProtocols: ['http/1.1'], ...servername, ...tls };
  return connectTls(options).setNoDelay(true);
}
