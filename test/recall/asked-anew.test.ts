/** Who has to see what the remote has now is not served with an answer that was on its way before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { openHttpRemote } from '../../src/remote/http/http-remote.ts';
import type { Remote } from '../../src/remote/remote.ts';
import { waitFor } from '../support/wait-for.ts';
import { answer, scriptedOrigin } from '../remote/http/scripted-origin.ts';
import type { ScriptedOrigin } from '../remote/http/scripted-origin.ts';
import { namespaceScene } from './namespace-scene.ts';
import type { NamespaceScene } from './namespace-scene.ts';

/** A web server whose answers are made when the question comes, and sent when the network lets them through. */
class SlowOrigin implements AsyncDisposable {
  /** Names of the root, with their tags. */
  readonly tags = new Map([['file', '"1"']]);
  isHeld = false;
  readonly #origin: ScriptedOrigin;
  readonly #remote: Remote;
  #held: (() => void)[] = [];
  asked = 0;

  private constructor(origin: ScriptedOrigin, remote: Remote) {
    this.#origin = origin;
    this.#remote = remote;
  }

  static async start(): Promise<SlowOrigin> {
    const late: { scene?: SlowOrigin } = {};
    const origin = await scriptedOrigin(({ method, path, socket }) => {
      const scene = late.scene as SlowOrigin;
      const bytes = scene.#answer(method, path);
      if (path === '/' && method === 'HEAD') return bytes;
      scene.asked += 1;
      if (!scene.isHeld) return bytes;
      scene.#held.push(() => socket.write(bytes));
      return undefined;
    });
    const remote = await openHttpRemote({ url: origin.url, proxy: '' });
    late.scene = new SlowOrigin(origin, remote);
    return late.scene;
  }

  scene(ttlMs: number): NamespaceScene<Remote> {
    return namespaceScene(this.#remote, ttlMs);
  }

  letGo(): void {
    this.isHeld = false;
    for (const send of this.#held.splice(0)) send();
  }

  #answer(method: string, path: string): Uint8Array {
    if (path === '/') {
      const rows = [...this.tags.keys()].map((name) => ({ name, type: 'file' }));
      const text = JSON.stringify(rows);
      const fields = { 'Content-Type': 'application/json', 'Content-Length': text.length };
      return answer(200, fields, method === 'HEAD' ? '' : text);
    }
    const tag = this.tags.get(path.slice(1));
    return tag === undefined ? answer(404) : answer(200, { ETag: tag, 'Content-Length': 5 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.letGo();
    await this.#remote.close();
    await this.#origin[Symbol.asyncDispose]();
  }
}

for (const [what, ttlMs, force] of [
  ['with a time to live of zero', 0, false],
  ['by force', 60_000, true],
] as const) {
  test(`a version that is asked for ${what} is the one of now, whoever asked before`, async () => {
    await using origin = await SlowOrigin.start();
    const { namespace, child } = origin.scene(ttlMs);
    await namespace.list(ROOT_NODE_ID);
    const { id } = await namespace.resolve(child('file').id);
    const before = origin.asked;
    origin.isHeld = true;
    const first = namespace.revalidate(id, undefined, force);
    await waitFor(() => origin.asked > before, { what: 'the first question' });
    origin.tags.set('file', '"2"');
    const later = [1, 2].map(() =>
      assert.rejects(namespace.revalidate(id, undefined, force), { code: 'ESTALE' }),
    );
    origin.letGo();
    assert.equal((await first).version, 'etag:"1"');
    await Promise.all(later);
    assert.equal(origin.asked, before + 2, 'one question for all who came later');
    await namespace.close();
  });

  test(`names that are asked for ${what} are those of now, whoever asked before`, async () => {
    await using origin = await SlowOrigin.start();
    const { namespace, catalog } = origin.scene(ttlMs);
    origin.isHeld = true;
    const first = namespace.list(ROOT_NODE_ID);
    await waitFor(() => origin.asked > 0, { what: 'the first question' });
    origin.tags.set('later', '"1"');
    const second = namespace.list(ROOT_NODE_ID, undefined, force);
    origin.letGo();
    await Promise.all([first, second]);
    assert.notEqual(catalog.child(ROOT_NODE_ID, encodeName('later')), undefined);
    await namespace.close();
  });
}

test('who gives up does not wait for the answer that came before his', async () => {
  await using origin = await SlowOrigin.start();
  const { namespace, child } = origin.scene(0);
  await namespace.list(ROOT_NODE_ID);
  const { id } = await namespace.resolve(child('file').id);
  const before = origin.asked;
  origin.isHeld = true;
  const first = namespace.revalidate(id);
  await waitFor(() => origin.asked > before, { what: 'the first question' });
  const giving = new AbortController();
  const second = assert.rejects(namespace.revalidate(id, giving.signal), { code: 'EINTR' });
  giving.abort();
  await second;
  origin.letGo();
  await first;
  await namespace.close();
});
