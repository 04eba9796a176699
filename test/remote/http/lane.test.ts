/** What only the fast lane does: its pool, its falls back to the general transport, its stale connections. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LaneTransport } from '../../../src/remote/http/lane/lane-transport.ts';
import type {
  AnswerHead,
  AnswerReceiver,
  HttpRequest,
  Transport,
} from '../../../src/remote/http/transport.ts';
import { waitFor } from '../../support/wait-for.ts';
import { never } from './collect.ts';
import { answer, scriptedOrigin } from './scripted-origin.ts';
import type { Script, ScriptedOrigin } from './scripted-origin.ts';

/** Counts what falls back to it, and answers nothing. */
class Fallback implements Transport {
  sent = 0;
  async send(_request: HttpRequest, receiver: AnswerReceiver): Promise<void> {
    this.sent += 1;
    receiver.head({ status: 299, headers: {} });
  }
  async close(): Promise<void> {}
}

class Receiver implements AnswerReceiver {
  readonly heads: AnswerHead[] = [];
  receivedBytes = 0;
  readonly #memory = new Uint8Array(1000);
  readonly #wants: boolean;
  constructor(wants = true) {
    this.#wants = wants;
  }
  head(head: AnswerHead): { buffer(): Uint8Array; filled(countBytes: number): void } | undefined {
    this.heads.push(head);
    if (!this.#wants) return undefined;
    return {
      buffer: () => this.#memory,
      filled: (countBytes) => {
        this.receivedBytes += countBytes;
      },
    };
  }
}

const tls = { ca: undefined, clientCertificate: undefined, clientKey: undefined, insecure: false };

/** No answer of this process to itself takes so long, on whatever machine. */
const patientMs = 60_000;

async function withLane(
  script: Script,
  connections: number,
  use: (
    get: (
      receiver?: Receiver,
      signal?: AbortSignal,
      method?: 'GET' | 'HEAD',
      mayBeChunked?: boolean,
    ) => Promise<Receiver>,
    origin: ScriptedOrigin,
    fallback: Fallback,
  ) => Promise<void>,
  headersTimeoutMs = patientMs,
): Promise<void> {
  await using server = await scriptedOrigin(script);
  const fallback = new Fallback();
  const origin = server.url.slice(0, -1);
  const limits = { connectTimeoutMs: patientMs, headersTimeoutMs, bodyTimeoutMs: patientMs };
  const lane = new LaneTransport({ ...limits, connections, origin, tls, fallback });
  const request = { origin, path: '/x', headers: { range: 'bytes=0-1' } } as const;
  try {
    await use(
      async (receiver = new Receiver(), signal = never, method = 'GET', mayBeChunked = false) => {
        await lane.send({ ...request, method, mayBeChunked }, receiver, signal);
        return receiver;
      },
      server,
      fallback,
    );
  } finally {
    await lane.close();
  }
}

const body = 'b'.repeat(5000);

void test('never more connections than allowed; requests that wait get their turn', async () => {
  let most = 0;
  const script: Script = ({ socket }) => {
    setTimeout(() => socket.write(answer(206, {}, body)), 2);
    return undefined;
  };
  await withLane(script, 3, async (get, origin) => {
    const all = Array.from({ length: 50 }, async () => {
      const receiver = await get();
      most = Math.max(most, origin.openConnections);
      assert.equal(receiver.receivedBytes, 5000);
    });
    await Promise.all(all);
    assert.equal(most, 3);
    assert.equal(origin.requests.length, 50);
  });
});

void test('HEADs keep their connection, whatever length they announce', async () => {
  const heads = [
    answer(200, { 'Content-Length': '5000' }, ''),
    answer(200, { 'Transfer-Encoding': 'chunked' }, ''),
    answer(404, {}, ''),
  ];
  const script: Script = ({ count }) => heads[count - 1] ?? answer(206, {}, body);
  await withLane(script, 4, async (get, origin, fallback) => {
    for (const status of [200, 200, 404]) {
      const receiver = await get(new Receiver(false), never, 'HEAD');
      assert.equal(receiver.heads[0]?.status, status);
    }
    assert.equal((await get()).receivedBytes, 5000, 'the next answer begins where the head ended');
    assert.equal(new Set(origin.requests.map(({ socket }) => socket)).size, 1);
    assert.equal(fallback.sent, 0);
  });
});

void test('a server that sends a body after a HEAD loses the connection, not the next answer', async () => {
  const script: Script = ({ count }) =>
    count === 1 ? answer(200, {}, 'unasked') : answer(206, {}, body);
  await withLane(script, 4, async (get, origin) => {
    await get(new Receiver(false), never, 'HEAD');
    assert.equal((await get()).receivedBytes, 5000);
    assert.equal(new Set(origin.requests.map(({ socket }) => socket)).size, 2);
  });
});

void test('a request that is aborted while it waits leaves the queue', async () => {
  let release = (): void => undefined;
  const script: Script = ({ socket, count }) => {
    if (count > 1) return answer(206, {}, body);
    release = () => socket.write(answer(206, {}, body));
    return undefined;
  };
  await withLane(script, 1, async (get, origin) => {
    const first = get();
    const stop = new AbortController();
    const second = get(new Receiver(), stop.signal);
    const third = get();
    const reason = new Error('stop');
    stop.abort(reason);
    await assert.rejects(second, reason);
    while (origin.requests.length === 0) {
      await new Promise((resolve) => {
        setTimeout(resolve, 5);
      });
    }
    release();
    assert.equal((await first).receivedBytes, 5000);
    assert.equal((await third).receivedBytes, 5000);
    assert.equal(origin.requests.length, 2);
  });
});

void test('of idle connections one is kept for the next request, the others are closed', async () => {
  const bothCame = Promise.withResolvers<void>();
  const plain = answer(200, {}, 'bb');
  const script: Script = ({ socket, count }) => {
    // Both are under way at one time, so that there are two connections.
    if (count === 2) bothCame.resolve();
    void bothCame.promise.then(() => socket.write(plain));
    return undefined;
  };
  await withLane(script, 2, async (get, origin) => {
    await Promise.all([get(), get()]);
    assert.equal(origin.openConnections, 2);
    const what = 'the end of one';
    await waitFor(() => origin.openConnections === 1, { what, timeoutMs: 10_000 });
    await get();
    const [first, second, third] = origin.requests.map((request) => request.socket);
    assert.ok(third === first || third === second);
    assert.equal(origin.openConnections, 1);
  });
});

void test('a server that says how long it keeps a connection is believed', async () => {
  const script: Script = () => answer(200, { 'Keep-Alive': 'timeout=1' }, 'bb');
  await withLane(script, 1, async (get, origin) => {
    await get();
    await waitFor(() => origin.openConnections === 0, { what: 'its end', timeoutMs: 3_000 });
  });
});

void test('answers that are not plain fall back; after three of them the lane is not tried', async () => {
  const chunked = answer(206, { 'Transfer-Encoding': 'chunked' }, '1\r\nx\r\n0\r\n\r\n');
  await withLane(
    () => chunked,
    4,
    async (get, origin, fallback) => {
      for (let count = 0; count < 6; count += 1) {
        const receiver = await get();
        assert.deepEqual(
          receiver.heads.map(({ status }) => status),
          [299],
        );
      }
      assert.equal(fallback.sent, 6);
      assert.equal(origin.requests.length, 3);
    },
  );
});

void test('a listing may come in chunks; one that is cut or framed wrongly is an error', async () => {
  const chunks = (framed: string, status = 200): Uint8Array =>
    answer(status, { 'Transfer-Encoding': 'chunked' }, framed);
  const good = `3;x\r\nabc\r\n1388\r\n${body}\r\n0\r\nA: b\r\n\r\n`;
  const listing = [new Receiver(), never, 'GET', true] as const;
  await withLane(
    () => chunks(good),
    4,
    async (get, origin, fallback) => {
      for (let count = 0; count < 5; count += 1) {
        assert.equal((await get(new Receiver(), never, 'GET', true)).receivedBytes, 5003);
      }
      assert.equal(new Set(origin.requests.map(({ socket }) => socket)).size, 1);
      assert.equal(fallback.sent, 0);
    },
  );
  for (const wrong of [`${good}x`, good.replace('1388', '1387'), good.replace('1388', 'x')]) {
    await withLane(
      () => chunks(wrong),
      4,
      async (get) => {
        await assert.rejects(get(...listing), { name: 'LaneError' }, wrong.slice(-20));
      },
    );
  }
  const cut: Script = ({ socket }) => void socket.end(chunks(good.slice(0, -20)));
  await withLane(cut, 4, async (get) => {
    await assert.rejects(get(...listing), { name: 'LaneError' });
  });
});

const inChunks = (framed: string, status = 200): Uint8Array =>
  answer(status, { 'Transfer-Encoding': 'chunked' }, framed);
const goodChunks = `3;x\r\nabc\r\n1388\r\n${body}\r\n0\r\nA: b\r\n\r\n`;
const getListing = ['GET', true] as const;

void test('chunks that the lane does not understand go to the general client', async () => {
  await withLane(
    () => inChunks('no size\r\n'),
    4,
    async (get, origin, fallback) => {
      for (let count = 0; count < 6; count += 1) {
        const receiver = await get(new Receiver(), never, ...getListing);
        assert.equal(receiver.heads.at(-1)?.status, 299);
        assert.equal(receiver.receivedBytes, 0);
      }
      assert.equal(fallback.sent, 6);
      assert.equal(origin.requests.length, 3);
    },
  );
});

void test('a listing that the lane broke off has another way, whatever goes well meanwhile', async () => {
  const release = Promise.withResolvers<void>();
  const script: Script = ({ count, socket }) => {
    if (count === 2) return inChunks(goodChunks.replace('1388', '1387'));
    if (count === 1) void release.promise.then(() => socket.write(inChunks(goodChunks)));
    return undefined;
  };
  await withLane(script, 4, async (get, origin, fallback) => {
    const other = get(new Receiver(), never, ...getListing);
    await waitFor(() => origin.requests.length === 1, { what: 'the first request' });
    await assert.rejects(get(new Receiver(), never, ...getListing), { reason: 'misframed' });
    release.resolve();
    assert.equal((await other).receivedBytes, 5003);
    const again = await get(new Receiver(), never, ...getListing);
    assert.equal(again.heads[0]?.status, 299);
    assert.equal(fallback.sent, 1);
  });
});

void test('chunks nobody wants: a few keep the connection; many, or wrong ones, do not', async () => {
  for (const [unwanted, connections] of [
    [goodChunks, 1],
    [`1FFFF\r\n${'b'.repeat(0x1ffff)}\r\n0\r\n\r\n`, 2],
    [goodChunks.replace('1388', '1387'), 2],
    [`${goodChunks}x`, 2],
  ] as const) {
    const script: Script = ({ count, socket }) => {
      if (count > 1) return inChunks(goodChunks);
      const whole = inChunks(unwanted, 404);
      for (let at = 0; at < whole.length; at += 1_000) socket.write(whole.subarray(at, at + 1_000));
      return undefined;
    };
    await withLane(script, 1, async (get, origin, fallback) => {
      const refused = await get(new Receiver(false), never, ...getListing);
      assert.equal(refused.heads[0]?.status, 404);
      const next = await get(new Receiver(), never, ...getListing);
      assert.equal(next.receivedBytes, 5003);
      const sockets = new Set(origin.requests.map(({ socket }) => socket));
      assert.equal(sockets.size, connections, unwanted.slice(0, 20));
      assert.equal(fallback.sent, 0);
    });
  }
});

void test('1xx and garbage fall back', async () => {
  for (const text of ['HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n', 'garbage\r\n\r\n']) {
    await withLane(
      () => text,
      1,
      async (get, _origin, fallback) => {
        await get();
        assert.equal(fallback.sent, 1);
      },
    );
  }
});

void test('a body nobody wants: a small one keeps the connection, a big one does not', async () => {
  for (const [size, connections] of [
    [5000, 1],
    [100_000, 2],
  ] as const) {
    const ports = new Set<number | undefined>();
    const script: Script = ({ socket }) => {
      ports.add(socket.remotePort);
      return answer(404, {}, 'b'.repeat(size));
    };
    await withLane(script, 1, async (get) => {
      await get(new Receiver(false));
      const again = await get();
      assert.equal(again.receivedBytes, size);
      assert.equal(ports.size, connections);
    });
  }
});

void test('bytes after the body end the connection, not the next answer', async () => {
  const script: Script = ({ count }) =>
    count === 1
      ? Buffer.concat([answer(206, {}, body), Buffer.from('HTTP/1.1 206 Fake')])
      : answer(206, {}, body);
  await withLane(script, 1, async (get) => {
    const first = await get().catch((error: Error) => error);
    if (!(first instanceof Error)) assert.equal(first.receivedBytes, 5000);
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
    assert.equal((await get()).receivedBytes, 5000);
  });
});

void test('heads in single bytes, and a head that trickles for too long', async () => {
  await withLane(
    ({ socket }) => {
      const bytes = answer(206, {}, 'xy');
      for (const byte of bytes) socket.write(Uint8Array.of(byte));
      return undefined;
    },
    1,
    async (get) => {
      assert.equal((await get()).receivedBytes, 2);
    },
  );
  await withLane(
    ({ socket }) => {
      socket.write('HTTP/1.1 206 OK\r\n');
      const timer = setInterval(() => socket.write('X: y\r\n'), 100);
      socket.on('close', () => clearInterval(timer));
      return undefined;
    },
    1,
    async (get) => {
      await assert.rejects(get(), { code: 'UND_ERR_HEADERS_TIMEOUT' });
    },
    1_000,
  );
});
