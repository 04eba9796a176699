/**
 * Receivers that make the fast lane wait. A TLS socket that is told to stop reading still hands over every record that
 * it has read already: nothing of it may reach the receiver before its turn, and nothing may be lost.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';

import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { LaneTransport } from '../../../src/remote/http/lane/lane-transport.ts';
import type {
  AnswerReceiver,
  BodyTarget,
  HttpRequest,
  Transport,
} from '../../../src/remote/http/transport.ts';
import type { Remote } from '../../../src/remote/remote.ts';
import { checkedRemote } from '../../../src/remote/checked.ts';
import { makeCertificates } from '../../support/certificates.ts';
import { patternBytes } from '../../support/pattern.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { MemorySink, never, readInto } from './collect.ts';
import { answer, askedRange, scriptedOrigin } from './scripted-origin.ts';
import type { Script, ScriptedOrigin, ScriptedRequest } from './scripted-origin.ts';

const keys = await temporaryDirectory();
after(() => keys[Symbol.asyncDispose]());
const certificates = makeCertificates(keys.path);
const pem = (file: string): string => readFileSync(file, 'utf8');
const secured = { cert: pem(certificates.certificateFile), key: pem(certificates.keyFile) };
const ca = pem(certificates.caFile);
const limits = { connectTimeoutMs: 20_000, headersTimeoutMs: 20_000, bodyTimeoutMs: 20_000 };
/** Of TLS records; the least is 512. */
const recordSizes = [512, 16_384];

/** The same bytes in chunks, the sizes of which go round. */
function inChunks(body: Uint8Array, sizes: readonly number[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0, round = 0; at < body.length; round += 1) {
    const piece = body.subarray(at, at + (sizes[round % sizes.length] ?? 1));
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
    at += piece.length;
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')]);
}

function cutRecords(request: ScriptedRequest, recordBytes: number): void {
  const { socket } = request;
  if (socket instanceof TLSSocket) assert.ok(socket.setMaxSendFragment(recordBytes));
}

/** Waits after every piece, and refuses to be touched meanwhile. */
class SlowReceiver implements AnswerReceiver, BodyTarget {
  readonly pieces: Uint8Array[] = [];
  heads = 0;
  readonly #memory: Uint8Array;
  #busy = false;
  constructor(memoryBytes: number) {
    this.#memory = new Uint8Array(memoryBytes);
  }
  head(): BodyTarget {
    this.heads += 1;
    return this;
  }
  buffer(): Uint8Array {
    if (this.#busy) throw new Error('went on while it was told to wait');
    return this.#memory;
  }
  async filled(countBytes: number): Promise<void> {
    this.pieces.push(this.#memory.slice(0, countBytes));
    this.#busy = true;
    await nextTurn();
    this.#busy = false;
  }
}

/** Nothing may come here: what the lane does not take is a failure of these tests. */
const noFallback: Transport = {
  async send(): Promise<void> {
    throw new Error('the lane gave it up');
  },
  async close(): Promise<void> {},
};

for (const secure of [false, true]) {
  describe(secure ? 'https' : 'http', () => waiting(secure));
}

function waiting(secure: boolean): void {
  const start = (script: Script): Promise<ScriptedOrigin> =>
    scriptedOrigin(script, secure ? secured : undefined);

  async function throughLane(
    script: Script,
    use: (
      send: (receiver: AnswerReceiver) => Promise<void>,
      origin: ScriptedOrigin,
    ) => Promise<void>,
  ): Promise<void> {
    await using server = await start(script);
    const origin = server.url.slice(0, -1);
    const tls = { ca, clientCertificate: undefined, clientKey: undefined, insecure: false };
    const lane = new LaneTransport({
      ...limits,
      origin,
      tls,
      connections: 1,
      fallback: noFallback,
    });
    const request: HttpRequest = {
      method: 'GET',
      origin,
      path: '/x',
      headers: {},
      mayBeChunked: true,
    };
    try {
      await use((receiver) => lane.send(request, receiver, never), server);
    } finally {
      await lane.close();
    }
  }

  async function throughRemote(
    script: Script,
    use: (remote: Remote) => Promise<void>,
  ): Promise<void> {
    await using server = await start(script);
    const caFile = secure ? { caFile: certificates.caFile } : {};
    const remote = await openHttpRemote({ url: server.url, ...limits, ...caFile });
    try {
      await use(checkedRemote(remote));
    } finally {
      await remote.close();
    }
  }

  for (const chunked of [false, true]) {
    const framing = chunked ? 'chunks' : 'a length';
    test(`${framing}: each piece awaited, every byte in its place`, async () => {
      const body = patternBytes(7, 300_000);
      for (const recordBytes of recordSizes) {
        for (const memoryBytes of [700, 5_000, 100_000]) {
          const script: Script = (request) => {
            cutRecords(request, recordBytes);
            return chunked
              ? answer(200, { 'Transfer-Encoding': 'chunked' }, inChunks(body, [1, 100, 3_000]))
              : answer(200, {}, body);
          };
          await throughLane(script, async (send, origin) => {
            for (let count = 0; count < 2; count += 1) {
              const receiver = new SlowReceiver(memoryBytes);
              await send(receiver);
              assert.ok(body.equals(Buffer.concat(receiver.pieces)));
            }
            assert.equal(new Set(origin.requests.map(({ socket }) => socket)).size, 1);
          });
        }
      }
    });

    test(`${framing}: the server closes while the receiver is slow`, async () => {
      const body = patternBytes(8, 50_000);
      for (const fields of [{}, { Connection: 'close' }]) {
        const script: Script = (request) => {
          cutRecords(request, 512);
          const all = chunked
            ? answer(200, { ...fields, 'Transfer-Encoding': 'chunked' }, inChunks(body, [900]))
            : answer(200, fields, body);
          request.socket.end(all);
          return undefined;
        };
        await throughLane(script, async (send) => {
          // The second waits for the only connection, which is none any more when the first is done.
          const both = [new SlowReceiver(3_000), new SlowReceiver(3_000)];
          await Promise.all(both.map((one) => send(one)));
          for (const { pieces } of both) assert.ok(body.equals(Buffer.concat(pieces)));
        });
      }
      const cut: Script = (request) => {
        cutRecords(request, 512);
        const all = chunked
          ? answer(200, { 'Transfer-Encoding': 'chunked' }, inChunks(body, [900]))
          : answer(200, {}, body);
        request.socket.end(all.subarray(0, all.length - 3));
        return undefined;
      };
      await throughLane(cut, async (send) => {
        const receiver = new SlowReceiver(3_000);
        await assert.rejects(send(receiver), { name: 'LaneError' });
        const came = Buffer.concat(receiver.pieces);
        assert.ok(came.equals(body.subarray(0, came.length)));
      });
    });

    test(`${framing}: bytes behind the body are no answer to the next request`, async () => {
      const body = patternBytes(9, 20_000);
      const script: Script = (request) => {
        cutRecords(request, 512);
        const all = chunked
          ? answer(200, { 'Transfer-Encoding': 'chunked' }, inChunks(body, [900]))
          : answer(200, {}, body);
        return Buffer.concat([all, answer(200, {}, 'forged')]);
      };
      await throughLane(script, async (send) => {
        const both = [new SlowReceiver(3_000), new SlowReceiver(3_000)];
        await Promise.allSettled(both.map((one) => send(one)));
        for (const { pieces } of both) {
          const came = Buffer.concat(pieces);
          assert.ok(came.equals(body.subarray(0, came.length)));
        }
      });
    });
  }

  test('content into a sink that is slow comes in one request', async () => {
    const content = patternBytes(10, 400_000);
    const tag = '"v1"';
    const requests: ScriptedRequest[] = [];
    const script: Script = (request) => {
      cutRecords(request, 512);
      requests.push(request);
      const [first, last] = askedRange(request);
      const range = { ETag: tag, 'Content-Range': `bytes ${first}-${last}/${content.length}` };
      return answer(206, range, content.subarray(first, last + 1));
    };
    await throughRemote(script, async (remote) => {
      const sink = new MemorySink({ pieceBytes: 3_000, pauseMs: 0 });
      const what = { offsetBytes: 1_000, lengthBytes: 300_000, version: `etag:${tag}` };
      await readInto(remote, 'file.bin', what, sink);
      assert.ok(content.subarray(1_000, 301_000).equals(sink.bytes()));
    });
    assert.equal(requests.length, 1);
  });

  test('a long listing in many chunks, of which its reader takes its time', async () => {
    const names = Array.from({ length: 6_000 }, (_unused, index) => `file-${index}.bin`);
    const rows = names.map((name) => `<a href="${name}">${name}</a>  04-Mar-2021 05:06  7\n`);
    const title = '<title>Index of /</title></head><body><h1>Index of /</h1>';
    const pre = `<hr><pre><a href="../">../</a>\n${rows.join('')}</pre><hr>`;
    const page = `<html><head>${title}${pre}</body></html>`;
    for (const [recordBytes, sizes] of [
      [512, [400, 90]],
      [16_384, [4_000]],
    ] as const) {
      const requests: ScriptedRequest[] = [];
      const script: Script = (request) => {
        cutRecords(request, recordBytes);
        requests.push(request);
        const fields = { 'Content-Type': 'text/html', 'Transfer-Encoding': 'chunked' };
        return answer(200, { ...fields, Server: 'nginx' }, inChunks(Buffer.from(page), sizes));
      };
      await throughRemote(script, async (remote) => {
        const listed: string[] = [];
        for await (const batch of remote.list('', { signal: never })) {
          listed.push(...batch.objects.map(({ name }) => name));
          for (let turn = 0; turn < 3; turn += 1) await nextTurn();
        }
        assert.deepEqual(listed, names);
      });
      assert.equal(requests.length, 1);
    }
  });
}
