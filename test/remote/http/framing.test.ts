/**
 * What an answer says of its own form: codings, and where its body ends. A connection that breaks must never pass for
 * the end of a file, and bytes that are a coding of the file never for the file, over either transport.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { EbbError } from '../../../src/base/errors.ts';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import type { AnswerReceiver, BodyTarget } from '../../../src/remote/http/transport.ts';
import { UndiciTransport } from '../../../src/remote/http/undici-transport.ts';
import { knownBytes } from '../../support/hostile-tree.ts';
import { MemorySink, never, readInto } from './collect.ts';
import type { ReadWhat } from './collect.ts';
import { askedRange, scriptedOrigin } from './scripted-origin.ts';
import type { Script, ScriptedOrigin, ScriptedRequest } from './scripted-origin.ts';

const sizeBytes = 300_000;
const content = knownBytes(0, sizeBytes);
const etag = 'ETag: "v1"';
const quick = { connectTimeoutMs: 20_000, headersTimeoutMs: 20_000, bodyTimeoutMs: 20_000 };

/** A head with these lines and nothing else. */
function head(...lines: readonly string[]): Uint8Array {
  return Buffer.from(`HTTP/1.1 ${[...lines, '', ''].join('\r\n')}`, 'latin1');
}

function chunk(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([
    Buffer.from(`${bytes.length.toString(16)}\r\n`),
    bytes,
    Buffer.from('\r\n'),
  ]);
}

const lastChunk = Buffer.from('0\r\n\r\n');
/** How a connection ends: FIN or RST. */
const endings = ['fin', 'rst'] as const;

/** Writes `bytes`; FIN follows at once, RST (which throws away what was not read) when `reset` is called. */
function sendAndEnd(
  { socket }: ScriptedRequest,
  bytes: Uint8Array,
  ending: (typeof endings)[number],
): void {
  if (ending === 'fin') socket.end(bytes);
  else socket.write(bytes);
}

/** Calls `reset` when so many bytes are there. */
class CuttingSink extends MemorySink {
  readonly #afterBytes: number;
  readonly #reset: () => void;

  constructor(afterBytes: number, reset: () => void) {
    super();
    this.#afterBytes = afterBytes;
    this.#reset = reset;
  }

  override filled(countBytes: number): void | Promise<void> {
    const wait = super.filled(countBytes);
    if (this.receivedBytes >= this.#afterBytes) this.#reset();
    return wait;
  }
}

function reset({ requests }: ScriptedOrigin): void {
  requests.at(-1)?.socket.resetAndDestroy();
}

for (const fastLane of [false, true]) {
  describe(fastLane ? 'fast lane' : 'undici', () => framing(fastLane));
}

function framing(fastLane: boolean): void {
  /** Reads; gives the error, and checks that what came is the beginning of the file. */
  async function outcome(
    script: Script,
    what: ReadWhat = {},
    { key = 'file.bin', resetAfterBytes = Infinity } = {},
  ): Promise<{ error: EbbError | undefined; receivedBytes: number; requests: number }> {
    await using origin = await scriptedOrigin(script);
    const remote = await openHttpRemote({ url: origin.url, fastLane, ...quick });
    const sink = new CuttingSink(resetAfterBytes, () => reset(origin));
    let error: EbbError | undefined;
    try {
      await readInto(remote, key, what, sink);
    } catch (thrown) {
      error = thrown as EbbError;
    } finally {
      await remote.close();
    }
    const { receivedBytes } = sink;
    const offset = what.offsetBytes ?? 0;
    assert.deepEqual(
      sink.bytes(),
      Buffer.from(content.subarray(offset, offset + receivedBytes)),
      'a right beginning',
    );
    return { error, receivedBytes, requests: origin.requests.length };
  }

  test('several Content-Encoding fields are not none', async () => {
    const refused = [
      ['Content-Encoding: gzip', 'Content-Encoding: gzip'],
      ['Content-Encoding: identity', 'Content-Encoding: br'],
      ['Content-Encoding: gzip, identity'],
      ['Content-Encoding: identity', 'content-encoding: identity'],
    ];
    const whole = [`Content-Length: ${sizeBytes}`, etag];
    for (const lines of refused) {
      for (const key of ['file.bin', 'file.gz']) {
        const script: Script = () => Buffer.concat([head('200 OK', ...whole, ...lines), content]);
        const { error, receivedBytes } = await outcome(script, {}, { key });
        assert.deepEqual([error?.code, error?.retryable], ['EIO', false], lines.join());
        assert.equal(receivedBytes, 0);
      }
    }
    const identity: Script = () =>
      Buffer.concat([head('200 OK', ...whole, 'Content-Encoding: Identity'), content]);
    assert.equal((await outcome(identity)).receivedBytes, sizeBytes);
  });

  test('a Transfer-Encoding other than chunked is refused', async () => {
    const body = Buffer.concat([chunk(content), lastChunk]);
    const refused = [
      ['Transfer-Encoding: gzip, chunked'],
      ['Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'],
      ['Transfer-Encoding: identity'],
      ['Transfer-Encoding: gzip'],
    ];
    for (const lines of refused) {
      const script: Script = (request) => {
        sendAndEnd(request, Buffer.concat([head('200 OK', etag, ...lines), body]), 'fin');
        return undefined;
      };
      const { error, receivedBytes } = await outcome(script);
      assert.deepEqual([error?.code, error?.retryable], ['EIO', false], lines.join());
      assert.equal(receivedBytes, 0);
    }
    const plain: Script = () =>
      Buffer.concat([head('200 OK', etag, 'Transfer-Encoding: Chunked'), body]);
    assert.equal((await outcome(plain)).receivedBytes, sizeBytes);
  });

  for (const ending of endings) {
    test(`a body that only ${ending} ends is none: a part would pass for the whole`, async () => {
      for (const sentBytes of ending === 'rst' ? [1000, sizeBytes] : [0, 1000, sizeBytes]) {
        const script: Script = (request) => {
          const top = head('200 OK', etag, 'Connection: close');
          const isHead = request.method === 'HEAD';
          const body = isHead ? [] : [content.subarray(0, sentBytes)];
          sendAndEnd(request, Buffer.concat([top, ...body]), isHead ? 'fin' : ending);
          return undefined;
        };
        const resetAfterBytes = ending === 'rst' ? sentBytes : Infinity;
        const { error, receivedBytes } = await outcome(script, {}, { resetAfterBytes });
        assert.deepEqual([error?.code, error?.retryable], ['EIO', false]);
        assert.match(error?.message ?? '', /without saying how long it is/);
        assert.equal(receivedBytes, 0);
      }
    });

    test(`where HEAD tells the size, ${ending} ends a body of that size and no other`, async () => {
      const expected = [
        [sizeBytes, undefined],
        [sizeBytes - 1, 'EIO'],
        [1000, 'EIO'],
      ] as const;
      for (const [sentBytes, code] of expected) {
        for (const version of [undefined, 'mtime=1614834367;size=300000']) {
          const script: Script = (request) => {
            const dated = 'Last-Modified: Thu, 04 Mar 2021 05:06:07 GMT';
            if (request.method === 'HEAD') {
              return head('200 OK', dated, `Content-Length: ${sizeBytes}`);
            }
            const top = head('200 OK', dated, 'Connection: close');
            sendAndEnd(request, Buffer.concat([top, content.subarray(0, sentBytes)]), ending);
            return undefined;
          };
          const resetAfterBytes = ending === 'rst' ? sentBytes : Infinity;
          const { error, receivedBytes } = await outcome(script, { version }, { resetAfterBytes });
          assert.equal(error?.code, code, `${sentBytes} bytes: ${error?.message}`);
          if (code === undefined) assert.equal(receivedBytes, sizeBytes);
        }
      }
    });

    test(`a range whose body only ${ending} ends is counted`, async () => {
      const range = { offsetBytes: 1000, lengthBytes: 5000 };
      for (const sentBytes of [5000, 4999]) {
        const script: Script = (request) => {
          const [first, last] = askedRange(request);
          const place = `Content-Range: bytes ${first}-${last}/${sizeBytes}`;
          const top = head('206 Partial Content', etag, place, 'Connection: close');
          sendAndEnd(
            request,
            Buffer.concat([top, content.subarray(first, first + sentBytes)]),
            ending,
          );
          return undefined;
        };
        const resetAfterBytes = ending === 'rst' ? sentBytes : Infinity;
        const { error, receivedBytes } = await outcome(script, range, { resetAfterBytes });
        assert.equal(error?.code, sentBytes === 5000 ? undefined : 'EIO');
        if (sentBytes === 5000) assert.equal(receivedBytes, 5000);
      }
    });

    test(`chunks that ${ending} cuts off are not all of them`, async () => {
      const script: Script = (request) => {
        const top = head('200 OK', etag, 'Transfer-Encoding: chunked', 'Connection: close');
        sendAndEnd(request, Buffer.concat([top, chunk(content.subarray(0, 1000))]), ending);
        return undefined;
      };
      const resetAfterBytes = ending === 'rst' ? 1000 : Infinity;
      const { error } = await outcome(script, {}, { resetAfterBytes });
      assert.deepEqual([error?.code, error?.retryable], ['EIO', true]);
    });
  }
}

/** Waits after every piece, and refuses to be touched meanwhile. */
class SlowReceiver implements AnswerReceiver, BodyTarget {
  readonly pieces: Uint8Array[] = [];
  readonly #memory: Uint8Array;
  readonly #whenFilled: () => void;
  #busy = false;

  constructor(memoryBytes: number, whenFilled: () => void) {
    this.#memory = new Uint8Array(memoryBytes);
    this.#whenFilled = whenFilled;
  }

  head(): BodyTarget {
    return this;
  }

  buffer(): Uint8Array {
    if (this.#busy) throw new Error('went on while it was told to wait');
    return this.#memory;
  }

  async filled(countBytes: number): Promise<void> {
    this.pieces.push(this.#memory.slice(0, countBytes));
    this.#whenFilled();
    this.#busy = true;
    await nextTurn();
    await nextTurn();
    this.#busy = false;
  }
}

for (const ending of endings) {
  test(`undici: what comes while the receiver makes it wait keeps its turn, when ${ending} follows`, async () => {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < sizeBytes; at += 3_333)
      pieces.push(chunk(content.subarray(at, at + 3_333)));
    const bodies = {
      chunked: Buffer.concat([...pieces, lastChunk]),
      length: content,
    };
    const lines = {
      chunked: 'Transfer-Encoding: chunked',
      length: `Content-Length: ${sizeBytes}`,
    };
    for (const form of ['chunked', 'length'] as const) {
      await using origin = await scriptedOrigin((request) => {
        const top = head('200 OK', etag, lines[form], 'Connection: close');
        sendAndEnd(request, Buffer.concat([top, bodies[form]]), ending);
        return undefined;
      });
      const tls = { ca: undefined, clientCertificate: undefined, clientKey: undefined };
      const transport = new UndiciTransport({
        ...quick,
        connections: 1,
        tls: { ...tls, insecure: false },
        proxy: undefined,
      });
      const receiver = new SlowReceiver(1000, () => {
        if (ending === 'rst') reset(origin);
      });
      const request = {
        method: 'GET',
        origin: origin.url.slice(0, -1),
        path: '/f',
        headers: {},
      } as const;
      try {
        await transport.send(request, receiver, never);
        assert.deepEqual(Buffer.concat(receiver.pieces), Buffer.from(content), form);
      } catch (error) {
        // A reset may throw away what was sent.
        assert.equal(ending, 'rst', String(error));
        const got = Buffer.concat(receiver.pieces);
        assert.deepEqual(got, Buffer.from(content.subarray(0, got.length)), form);
        assert.doesNotMatch(String(error), /told to wait/);
      } finally {
        await transport.close();
      }
    }
  });
}
