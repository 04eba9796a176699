/** Listings that show a part of a directory: what they leave out must not look deleted. */
import assert from 'node:assert/strict';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openHttpRemote } from '../../../src/remote/http/http-remote.ts';
import { listingParser } from '../../../src/remote/http/listing/listing-parser.ts';
import { fillManyEntries } from '../../support/hostile-tree.ts';
import { startApache, startCaddy, startNginx } from '../../support/servers.ts';
import { temporaryDirectory } from '../../support/temporary.ts';
import { listAll } from './collect.ts';

const partial = { name: 'EbbError', code: 'EIO', retryable: false, message: /a part of the dir/ };

interface Answer {
  readonly type?: string;
  readonly link?: string | readonly string[];
  /** Characters that come at a time. */
  readonly piece?: number;
}

function names(page: string, { type = 'text/html', link, piece = 1 << 20 }: Answer = {}): string[] {
  const headers = { 'content-type': type, ...(link === undefined ? {} : { link }) };
  const parser = listingParser('http://host/pub/', headers);
  const found: string[] = [];
  for (let at = 0; at < page.length; at += piece) {
    const { objects } = parser.write(Buffer.from(page.slice(at, at + piece)));
    found.push(...objects.map(({ name }) => name));
  }
  return [...found, ...parser.end().objects.map(({ name }) => name)];
}

const title = '<html><head><title>Index of /pub/</title></head><body><h1>Index of /pub/</h1>';

/** The same directory as several servers show it, with something before and behind the list. */
const servers: Readonly<Record<string, (before: string, behind: string) => string>> = {
  nginx: (before, behind) =>
    `${title}${before}<hr><pre><a href="../">../</a>\n` +
    `<a href="a">a</a>   04-Mar-2021 05:06    1\n</pre>${behind}<hr></body></html>`,
  Apache: (before, behind) =>
    `${title}${before}<table><tr><th><a href="?C=N;O=D">Name</a></th><th>Description</th></tr>` +
    `<tr><td><a href="a">a</a></td><td>Page 1 of 3, 1-2 of 9 files</td></tr></table>${behind}`,
  Caddy: (before, behind) =>
    `${title}${before}<table aria-describedby="summary"><tr><th><a href="?sort=name&order=desc">` +
    `Name</a></th></tr><tr><td><a href="./a">a</a></td></tr></table>${behind}`,
  'another server': (before, behind) =>
    `${title}${before}<a href="../">up</a><br><a href="a">a</a>  1 byte<br>${behind}</body></html>`,
};

const pagers: Readonly<Record<string, string>> = {
  'a link to a page': '<a href="?page=2">2</a>',
  'the same, absolute': '<a href="http://host/pub/?dir=x&amp;Page=2">&gt;</a>',
  'a program that makes pages': '<a href="index.php?p=2">second</a>',
  'an offset': '<a href="/pub/?offset=100">these</a>',
  'a token': '<a href="?continuation-token=1ueGcxLPRx1Tr%2FXYExHnhbYLgveDs2J">go on</a>',
  'a marker': '<a href="?Marker=zebra">go on</a>',
  'a link that says next': '<a href="?x=7"> Next page </a>',
  'a link that says more': '<a href="?x=7">Load more...</a>',
  'a number': '<a href="?view=list;x=2">2</a>',
  'rel=next': '<a class=x href="2/" rel="nofollow Next">on</a>',
  'a link of the document': '<link rel="next" href="/pub/page2">',
  'a sentence': '<p>Showing 1–100 of 240</p>',
  'a sentence in pieces': '<p>Displaying <b>1</b> - <b>1,000</b> of <b>2,400</b> entries.</p>',
  'a sentence without its start': '<p>1 to 50 out of 51 files</p>',
  'a count': '<p>Showing the first 1,000 of 12,345 objects</p>',
  'a number of pages': '<div>Page 1 of 3</div>',
};

const harmless: Readonly<Record<string, string>> = {
  nothing: '',
  'links that sort': '<a href="?C=M;O=A">Last modified</a> <a href="?sort=size&order=asc">Size</a>',
  'the only page': '<a href="?page=1">1</a><a href="?offset=0">first</a><p>Page 1 of 1</p>',
  'all of them': '<p>Showing 1–240 of 240 files, 240 of 240 objects. Page 3.</p>',
  'a link elsewhere': '<a href="http://other/?page=2" rel="next">2</a>',
  'other queries': '<a href="?view=grid">Grid</a><a href="?download=zip">ZIP</a>',
};

describe('pages', () => {
  for (const [server, page] of Object.entries(servers)) {
    for (const [what, pager] of Object.entries(pagers)) {
      test(`${server} with ${what} is refused`, () => {
        for (const piece of [7, 1 << 20]) {
          assert.throws(() => names(page('', pager), { piece }), partial);
          assert.throws(() => names(page(pager, ''), { piece }), partial);
        }
      });
    }
    for (const [what, extra] of Object.entries(harmless)) {
      test(`${server} with ${what} is complete`, () => {
        assert.deepEqual(names(page('', extra)), ['a']);
        assert.deepEqual(names(page(extra, ''), { piece: 7 }), ['a']);
      });
    }
    test(`${server} with a Link field`, () => {
      const text = page('', '');
      const next = [
        '<?page=2>; rel="next"',
        '</x>; rel=prev, </pub/?a,b>; title="a, b"; rel="x NEXT"',
      ];
      for (const link of [...next, ['</x>; rel=last', ...next.slice(0, 1)]]) {
        assert.throws(() => names(text, { link }), partial);
      }
      for (const link of [
        '</x>; rel=prev',
        '<next>; rel="preload"',
        '</x>; title="rel=next"',
        'x',
      ]) {
        assert.deepEqual(names(text, { link }), ['a'], link);
      }
    });
  }

  test('a web page with pages is still no listing', () => {
    const page = '<title>News</title><a href="a">a</a><a href="?page=2" rel="next">2</a>';
    assert.throws(() => names(page), { code: 'ENOTDIR' });
  });

  test('JSON with a Link field', () => {
    const json = '[{"name":"a","type":"file","size":1}]';
    const type = 'application/json';
    assert.deepEqual(names(json, { type, link: '<?page=1>; rel="first"' }), ['a']);
    assert.throws(() => names(json, { type, link: '<?page=2>; rel="next"' }), partial);
  });
});

test('nginx and Apache that say that there is more are refused; the same without it is listed', async () => {
  await using directory = await temporaryDirectory('pages');
  chmodSync(directory.path, 0o755);
  writeFileSync(path.join(directory.path, 'file'), 'x');
  writeFileSync(path.join(directory.path, 'FOOT.html'), '<p>Showing 1-1 of 7 files</p>');
  const header = `add_header Link '<?page=2>; rel="next"';`;
  await using whole = await startNginx({ root: directory.path });
  await using nginx = await startNginx({ root: directory.path, locationConfig: header });
  const extraConfig = `<Directory "${directory.path}">\nReadmeName FOOT.html\n</Directory>`;
  await using apache = await startApache({ root: directory.path, extraConfig });
  for (const [{ url }, isWhole] of [
    [whole, true],
    [nginx, false],
    [apache, false],
  ] as const) {
    for (const fastLane of [false, true]) {
      const remote = await openHttpRemote({ url, fastLane });
      await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
      if (isWhole) assert.equal((await listAll(remote, '')).objects.length, 2);
      else await assert.rejects(listAll(remote, ''), partial);
    }
  }
});

test('Caddy leaves out what comes after 10,000 names without a word: so many are a part', async () => {
  await using directory = await temporaryDirectory('many');
  chmodSync(directory.path, 0o755);
  fillManyEntries(directory.path, 10_001);
  await using caddy = await startCaddy({ root: directory.path });
  const remote = await openHttpRemote({ url: caddy.url });
  await using _closing = { [Symbol.asyncDispose]: async () => remote.close() };
  await assert.rejects(listAll(remote, ''), partial);
  const json = await fetch(caddy.url, { headers: { accept: 'application/json' } });
  const shown = (await json.json()) as { readonly name: string }[];
  assert.equal(shown.length, 10_000);
  for (const { name } of shown.slice(0, 2)) rmSync(path.join(directory.path, name));
  assert.equal((await listAll(remote, '')).objects.length, 9_999);
  const page = await (await fetch(caddy.url, { headers: { accept: 'text/html' } })).text();
  assert.equal(names(page).length, 9_999);
  const row = '<tr class="file"><td><a href="./more">more</a></td></tr>';
  assert.throws(() => names(page.replace('</tbody>', `${row}</tbody>`)), partial);
});
