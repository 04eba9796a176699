/** What a web server answers badly for one object says nothing of its others, nor that it cannot be reached. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeName } from '../../src/base/name.ts';
import { ROOT_NODE_ID } from '../../src/catalog/catalog.ts';
import { openRemote } from '../../src/remote/open-remote.ts';
import { answer, scriptedOrigin } from '../remote/http/scripted-origin.ts';
import type { Script } from '../remote/http/scripted-origin.ts';
import { namespaceScene } from './namespace-scene.ts';

const ttlMs = 1_000;
const page = '<html><title>Sorry</title>';
const json = { 'Content-Type': 'application/json' };
const row = (name: string, type: string): string => `{"name":"${name}","type":"${type}"}`;

/** `tag`: of the good file. `isBad`: the other one is a page without a version, the directory's listing ends early. */
function script(state: { tag: string; isBad: boolean }): Script {
  return ({ method, path }) => {
    if (path === '/') {
      const text = `[${row('bad', 'file')},${row('good', 'file')},${row('d', 'directory')}]`;
      return answer(200, { ...json, 'Content-Length': text.length }, method === 'HEAD' ? '' : text);
    }
    if (path === '/d/') return answer(200, json, state.isBad ? '[' : `[${row('name', 'file')}]`);
    if (path === '/good' || !state.isBad) {
      return answer(200, { ETag: state.tag, 'Content-Length': 5 });
    }
    return answer(200, { 'Content-Type': 'text/html', 'Content-Length': page.length });
  };
}

test('while one object is answered with a page or half a listing, the others are asked about', async () => {
  const state = { tag: '"1"', isBad: false };
  await using origin = await scriptedOrigin(script(state));
  const remote = await openRemote({ url: origin.url, proxy: '', retries: 0 });
  await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
  const { namespace, catalog, clock, child } = namespaceScene(remote, ttlMs);
  await namespace.list(ROOT_NODE_ID);
  const bad = await namespace.resolve(child('bad').id);
  const good = await namespace.resolve(child('good').id);
  const directoryId = child('d').id;
  await namespace.list(directoryId);

  state.isBad = true;
  clock.advance(ttlMs);
  assert.equal((await namespace.revalidate(bad.id)).id, bad.id, 'what was known is served');
  await namespace.list(directoryId);
  assert.notEqual(catalog.child(directoryId, encodeName('name')), undefined);
  assert.equal(namespace.remoteReachable, true);

  state.tag = '"2"';
  await assert.rejects(namespace.revalidate(good.id), { code: 'ESTALE' });
  await namespace.close();
});
