/** The control server's protocol: limits, validation, errors, disconnects, stale sockets. */
import assert from 'node:assert/strict';
import { chmodSync, lstatSync, statSync } from 'node:fs';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { ebbError } from '../../src/base/errors.ts';
import { startControlServer } from '../../src/daemon/control/server.ts';
import { renderOpenMetrics } from '../../src/daemon/control/open-metrics.ts';
import { requestBodyMaxBytes } from '../../src/daemon/control/requests.ts';
import { fileInfo, scratch, scriptedDaemon } from '../cli/support.ts';
import { waitFor } from '../support/wait-for.ts';

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function ask(socketPath: string, method: string, target: string, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path: target, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          body: text,
        }),
      );
      response.once('error', reject);
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

test('the socket is for its owner alone', async () => {
  await using daemon = await scriptedDaemon();
  assert.equal(lstatSync(daemon.record.socketPath).mode & 0o777, 0o600);
  assert.equal(statSync(path.dirname(daemon.record.socketPath)).mode & 0o777, 0o700);
});

test('a directory that others may enter is refused', async () => {
  using directory = scratch();
  chmodSync(directory.path, 0o755);
  await assert.rejects(startControlServer(path.join(directory.path, 's.sock'), {} as never), {
    code: 'EACCES',
  });
  const long = path.join(directory.path, 'x'.repeat(120));
  await assert.rejects(startControlServer(long, {} as never), { code: 'ENAMETOOLONG' });
});

test('a socket left behind is replaced, a live one is not', async () => {
  using directory = scratch();
  const socketPath = path.join(directory.path, 's.sock');
  const first = await startControlServer(socketPath, {} as never);
  await assert.rejects(startControlServer(socketPath, {} as never), { code: 'EADDRINUSE' });
  await first.close();
  // A server in another process that dies leaves its socket file.
  const { spawnSync } = await import('node:child_process');
  const script =
    `require('node:net').createServer().listen(${JSON.stringify(socketPath)}, ` +
    "() => process.kill(process.pid, 'SIGKILL'))";
  spawnSync(process.execPath, ['-e', script]);
  assert.ok(lstatSync(socketPath).isSocket());
  const second = await startControlServer(socketPath, {} as never);
  await second.close();
  assert.equal(lstatSync(socketPath, { throwIfNoEntry: false }), undefined);
});

test('requests are validated before a handler sees them', async () => {
  await using daemon = await scriptedDaemon();
  const { socketPath } = daemon.record;
  const cases: [string, string, string | undefined, number, RegExp][] = [
    ['GET', '/v1/nothing', undefined, 501, /knows no GET/],
    ['POST', '/v1/get', 'no json', 400, /not JSON/],
    ['POST', '/v1/get', '{"paths":[1]}', 400, /paths\.0/],
    ['POST', '/v1/get', '{"paths":["a/../../etc"]}', 400, /\.\./],
    ['POST', '/v1/get', '{"paths":["a\\u0000b"]}', 400, /NUL/],
    ['POST', '/v1/get', '{"paths":[],"extra":1}', 400, /extra/],
    ['GET', '/v1/ls?path=..%2F..', undefined, 400, /\.\./],
    ['GET', '/v1/ls?recursive=1&self=1', undefined, 400, /not for both/],
    ['GET', '/v1/log?lines=-1', undefined, 400, /lines/],
    ['POST', '/v1/stop', '{"lazy":"yes"}', 400, /lazy/],
    ['GET', '/v1/explain?path=nope', undefined, 404, /"code":"ENOENT"/],
  ];
  for (const [method, target, body, status, text] of cases) {
    const answer = await ask(socketPath, method, target, body);
    assert.equal(answer.status, status, `${target} ${body}`);
    assert.match(answer.body, text);
    assert.equal(answer.type, 'application/json');
  }
  assert.equal(daemon.asked.length, 0);
  const normal = await ask(socketPath, 'POST', '/v1/pin', '{"paths":["/a//b/./c/"]}');
  assert.equal(normal.status, 200);
  assert.deepEqual(daemon.asked[0]?.request.paths, ['a/b/c']);
});

test('a body that is too long is refused', async () => {
  await using daemon = await scriptedDaemon();
  const body = `{"paths":["${'x'.repeat(requestBodyMaxBytes)}"]}`;
  const answer = await ask(daemon.record.socketPath, 'POST', '/v1/get', body).catch(
    (error: NodeJS.ErrnoException) => error.code,
  );
  // The answer may be lost when the rest of the body meets a closed connection.
  if (typeof answer === 'object') assert.equal(answer.status, 413);
  else assert.match(String(answer), /EPIPE|ECONNRESET/);
  assert.equal(daemon.asked.length, 0);
});

test('the handler learns that the client went away', async () => {
  const gone = Promise.withResolvers<unknown>();
  let returned = false;
  await using daemon = await scriptedDaemon({
    log: async function* (_, signal) {
      try {
        yield { timeMs: 0, level: 'info', message: 'first' };
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve());
        });
        gone.resolve(signal.reason);
      } finally {
        returned = true;
      }
    },
  });
  const { socketPath } = daemon.record;
  const outgoing = request({ socketPath, path: '/v1/log?follow=1', agent: false }, (response) => {
    // The first record arrives although the stream goes on.
    response.once('data', () => outgoing.destroy());
    response.on('error', () => {});
  });
  outgoing.on('error', () => {});
  outgoing.end();
  assert.equal(((await gone.promise) as { code: string }).code, 'EINTR');
  await waitFor(() => returned, { what: 'the handler to end' });
});

test('a long listing neither blocks the event loop nor runs ahead of a slow reader', async () => {
  let produced = 0;
  let longestMs = 0;
  await using daemon = await scriptedDaemon({
    ls: async function* () {
      for (; produced < 150_000; produced += 1) yield fileInfo(`file-${produced}`);
    },
  });
  // Of processor time: on a busy machine others have their turns in between.
  const usedMs = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  };
  let lastMs = usedMs();
  const ticker = setInterval(() => {
    longestMs = Math.max(longestMs, usedMs() - lastMs);
    lastMs = usedMs();
  }, 5);
  const { socketPath } = daemon.record;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ socketPath, path: '/v1/ls?recursive=1', agent: false }, resolve)
      .once('error', reject)
      .end();
  });
  await sleep(300); // nobody reads
  const ahead = produced;
  assert.ok(ahead < 100_000, `${ahead} entries were produced for a reader that does not read`);
  let newlines = 0;
  response.setEncoding('latin1');
  for await (const chunk of response as AsyncIterable<string>)
    newlines += chunk.split('\n').length - 1;
  clearInterval(ticker);
  assert.equal(newlines, 150_000);
  assert.ok(longestMs < 500, `the event loop stood for ${longestMs} ms`);
});

test('close lets an answer out and then ends everything', async () => {
  const daemon = await scriptedDaemon({
    stop: async () => {
      setTimeout(() => void daemon[Symbol.asyncDispose](), 0);
      await sleep(50);
      return { stopped: true, holders: [] };
    },
  });
  const answer = await ask(daemon.record.socketPath, 'POST', '/v1/stop', '{}');
  assert.deepEqual(JSON.parse(answer.body), { stopped: true, holders: [] });
});

test('metrics are OpenMetrics text', async () => {
  await using daemon = await scriptedDaemon({
    metrics: async () => [
      {
        name: 'ebb_recalled_bytes',
        type: 'counter',
        unit: 'bytes',
        help: 'Bytes "fetched".',
        samples: [{ labels: { remote: 'a"b\\c\n' }, value: 5 }, { value: Infinity }],
      },
    ],
  });
  const answer = await ask(daemon.record.socketPath, 'GET', '/metrics');
  assert.match(answer.type, /^application\/openmetrics-text; version=1\.0\.0/);
  assert.equal(
    answer.body,
    [
      '# TYPE ebb_recalled_bytes counter',
      '# UNIT ebb_recalled_bytes bytes',
      String.raw`# HELP ebb_recalled_bytes Bytes \"fetched\".`,
      String.raw`ebb_recalled_bytes_total{remote="a\"b\\c\n"} 5`,
      'ebb_recalled_bytes_total +Inf',
      '# EOF',
      '',
    ].join('\n'),
  );
  assert.equal(renderOpenMetrics([]), '# EOF\n');
});

test('what a handler throws becomes a status', async () => {
  for (const [code, status] of [
    ['EBUSY', 409],
    ['ENOSPC', 507],
    ['EIO', 500],
  ] as const) {
    await using daemon = await scriptedDaemon({
      du: async () => {
        throw ebbError(code, 'a sentence', { retryable: true });
      },
    });
    const answer = await ask(daemon.record.socketPath, 'GET', '/v1/du');
    assert.equal(answer.status, status);
    assert.deepEqual(JSON.parse(answer.body), { error: 'a sentence', code, retryable: true });
  }
});
