/** Pages of servers that are not here, pages that are no listings, and listings in strange clothes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { HtmlListing } from '../../../src/remote/http/listing/html-listing.ts';
import { listingParser } from '../../../src/remote/http/listing/listing-parser.ts';
import { listingBase } from '../../../src/remote/http/url.ts';
import type { ListingBatch } from '../../../src/remote/remote.ts';

function parse(
  page: string | Uint8Array,
  type = 'text/html',
  url = 'http://host/pub/',
): ListingBatch {
  const parser = listingParser(url, { 'content-type': type });
  const first = parser.write(typeof page === 'string' ? Buffer.from(page) : page);
  const last = parser.end();
  return {
    objects: [...first.objects, ...last.objects],
    skipped: [...first.skipped, ...last.skipped],
  };
}

function names(page: string | Uint8Array, type?: string, url?: string): string[] {
  return parse(page, type, url).objects.map(
    ({ name, kind }) => name + (kind === 'directory' ? '/' : ''),
  );
}

const notListing = { name: 'EbbError', code: 'ENOTDIR' };
const cutOff = { name: 'EbbError', code: 'EIO', retryable: true };

void describe('pages that are no listings', () => {
  const pages: Readonly<Record<string, string>> = {
    empty: '',
    'an index page':
      '<html><head><title>Welcome</title></head><body><a href="a.html">a</a></body></html>',
    'an index page with an innocent list': '<title>My files</title><ul><li><a href="a"> a</a></ul>',
    'a login page':
      '<title>Index of /</title><form action="login"><input name=u></form><a href="a">a</a>',
    'a page with scripts':
      '<title>Index of /</title><script src="app.js"></script><a href="a">a</a>',
    'a page with a frame': '<h1>Index of /</h1><iframe src="x"></iframe><a href="a">a</a>',
    'a page that refreshes':
      '<title>Index of /</title><meta http-equiv="Refresh" content="0;url=/x"><a href="a">a</a>',
    'a page with <base>': '<title>Index of /</title><base href="/other/"><a href="a">a</a>',
    'an index of articles':
      '<title>Index of articles</title><a href="one">1</a><a href="/other/two">2</a>',
    'an error page': '<html><head><title>404 Not Found</title></head><body>nginx</body></html>',
    'a title and nothing else': '<html><title>Index of /</title><body></body></html>',
    'nginx without its first link':
      '<title>Index of /pub/</title><h1>Index of /pub/</h1><pre><a href="x?y">x</a></pre>',
  };
  for (const [what, page] of Object.entries(pages)) {
    void test(what, () => assert.throws(() => parse(page), notListing));
  }

  void test('other media types', () => {
    for (const type of ['', 'text/plain', 'application/octet-stream', 'image/png', 'text/xml']) {
      assert.throws(() => parse('<title>Index of /</title>', type), notListing);
    }
  });

  void test('JSON that is something else', () => {
    const texts = ['{}', '[1]', '["a"]', '[{"name":"a"}]', '[{"id":1}]', '42', '"x"', 'true', ''];
    texts.push(
      '[{"name":"a","type":"file"}] trailing',
      '{"name":"a","type":"file"}',
      '[]]',
      '[[]]',
    );
    for (const text of texts) {
      assert.throws(() => parse(text, 'application/json'), { name: 'EbbError' }, text);
    }
    assert.deepEqual(names('[]', 'application/json'), []);
    assert.deepEqual(names('null\n', 'application/json'), []);
  });

  void test('a page without end is given up', () => {
    const parser = listingParser('http://host/', { 'content-type': 'text/html' });
    const piece = Buffer.from('<p>words</p>'.repeat(100_000));
    assert.throws(() => {
      for (let count = 0; count < 100; count += 1) parser.write(piece);
    }, notListing);
  });
});

void describe('what never ends within a listing', () => {
  const top =
    '<html>\r\n<head><title>Index of /pub/</title></head>\r\n<body>\r\n<h1>Index of /pub/</h1><hr><pre>' +
    '<a href="../">../</a>\r\n<a href="a">a</a>      01-Nov-2026 00:00      3\r\n';
  const fill = (listing: HtmlListing, piece: string): string[] => {
    const found: string[] = [];
    for (let count = 0; count < 64; count += 1) {
      for (const { name } of listing.write(piece).objects) found.push(name);
    }
    return found;
  };
  const openings = [
    '<!--',
    '<a href="',
    '<a x',
    '<a x=',
    '</a',
    '<',
    '<![CDATA[',
    '<?',
    '<!DOCTYPE ',
    '<a href="&amp',
  ];
  const newListing = (): HtmlListing =>
    new HtmlListing(listingBase('http://h/pub/'), 'http://h/pub/');

  for (const opening of openings) {
    void test(`${opening}: it is given up, not kept`, () => {
      const listing = newListing();
      listing.write(top + opening);
      assert.throws(() => fill(listing, 'x'.repeat(16_384)), {
        code: 'EIO',
        retryable: false,
      });
      const page = newListing();
      page.write(`<html><body>${opening}`);
      assert.throws(() => fill(page, 'x'.repeat(16_384)), notListing);
    });
  }

  void test('long texts, and many tags and comments, are none of that', () => {
    const listing = newListing();
    const found = listing.write(top).objects.map(({ name }) => name);
    found.push(...fill(listing, 'y'.repeat(100_000)));
    found.push(...fill(listing, `<!--${'z'.repeat(60_000)}-->`));
    found.push(...fill(listing, '<b></b>'.repeat(20_000)));
    const rest = listing.write('<a href="b">b</a> x\r\n</pre><hr></body></html>').objects;
    found.push(...[...rest, ...listing.end().objects].map(({ name }) => name));
    assert.deepEqual(found, ['a', 'b']);
  });
});

void describe('listings of other servers', () => {
  void test('IIS', () => {
    const page =
      '<html><head><title>host - /pub/</title></head><body><H1>host - /pub/</H1><hr>\n' +
      '<pre><A HREF="/">[To Parent Directory]</A><br><br> 3/4/2021  5:06 AM        &lt;dir&gt; ' +
      '<A HREF="/pub/sub/">sub</A><br> 3/4/2021  5:06 AM   1234 <A HREF="/pub/a%20b.txt">a b.txt</A><br>' +
      '</pre><hr></body></html>';
    assert.deepEqual(names(page), ['sub/', 'a b.txt']);
    assert.throws(() => parse(page.slice(0, -20)), cutOff);
  });

  void test('Jetty, Tomcat, and the like', () => {
    const jetty =
      '<html><head><title>Directory: /pub/</title></head><body><h1 class="title">Directory: /pub/</h1>' +
      '<table class="listing"><thead><tr><th><a href="?C=N&O=D">Name</a></th></tr></thead><tbody>' +
      '<tr><td><a href="../">Parent</a></td></tr>' +
      '<tr><td class="name"><a href="/pub/x.jar">x.jar&nbsp;</a></td><td>1,234 bytes</td></tr>' +
      '</tbody></table></body></html>';
    assert.deepEqual(names(jetty), ['x.jar']);
    const tomcat =
      '<html><head><title>Directory Listing For [/pub/]</title></head><body>' +
      '<h1>Directory Listing For [/pub/] - <a href="/"><b>Up To [/]</b></a></h1><table>' +
      '<tr><td><a href="/pub/one.txt"><tt>one.txt</tt></a></td><td>0.1 kb</td></tr>' +
      '</table></body></html>';
    assert.deepEqual(names(tomcat), ['one.txt']);
  });

  void test('rclone serve http', () => {
    const page =
      '<html><head><title>Directory listing of /pub</title></head><body onload="initFilter()"><main>' +
      '<input type="text" id="filter"><table aria-describedby="summary"><tbody>' +
      '<tr class="file"><td></td><td><a href="./d/"><span class="name">d/</span></a></td></tr>' +
      '<tr class="file"><td></td><td><a href="./f%23"><span class="name">f#</span></a></td>' +
      '<td><time datetime="2021-03-04T05:06:07Z">x</time></td></tr></tbody></table></main></body></html>';
    assert.deepEqual(names(page), ['d/', 'f#']);
  });
});

void describe('Apache in strange clothes', () => {
  const head = '<html><head><title>Index of /pub</title></head><body>';
  const table = (rows: string): string =>
    `<table id="indexlist"><tr><th><a href="?C=N;O=D">Name</a></th></tr>${rows}</table>`;

  void test('a HeaderName page with links, lists and tables before, a ReadmeName after', () => {
    const page =
      `${head}<h1>Our mirror</h1><ul><li><a href="not-an-entry">news</a></ul>` +
      '<table><tr><td><a href="nor-this">x</a></td></tr></table><form action="/search"></form>' +
      table('<tr><td><a href="real">real</a></td><td>2021-03-04 05:06</td><td>5</td></tr>') +
      '<p><a href="README.html">readme</a><table><tr><td><a href="again">x</a></td></tr></table></body></html>';
    assert.deepEqual(names(page), ['real']);
  });

  void test('icons that are links, descriptions, sort links with &', () => {
    const page =
      `${head}<h1>Index of /pub</h1><pre><a href="?C=N&amp;O=D">Name</a> <a href="?C=M&amp;O=A">M</a><hr>` +
      '<a href="a.txt"><img src="/icons/text.gif"></a> <a href="a.txt">a.txt</a>   2021-03-04 05:06   12  about 99\n' +
      '<a href="b/"><img src="/icons/folder.gif"></a> <a href="b/">b/</a>      04-Mar-2021 05:06    -   \n' +
      '<hr></pre></body></html>';
    const { objects } = parse(page);
    const roundedMtime = { seconds: 1_614_834_360, nanoseconds: 0 };
    assert.deepEqual(objects, [
      { name: 'a.txt', kind: 'file', roundedMtime, sizeBytes: 12 },
      { name: 'b', kind: 'directory', roundedMtime },
    ]);
  });

  void test('no sort links at all', () => {
    const page =
      `${head}<h1>Index of /pub</h1><pre>Name  Last modified<hr><a href="/">Parent Directory</a>   -\n` +
      '<a href="f">f</a>  2021-03-04 05:06  1.0K\n<hr></pre></body></html>';
    assert.deepEqual(names(page), ['f']);
  });

  void test('a list that is not closed was cut', () => {
    const page = `${head}<h1>Index of /pub</h1>${table('<tr><td><a href="a">a</a></td></tr>')}`;
    assert.deepEqual(names(page), ['a']);
    assert.throws(() => parse(page.replace('</table>', '')), cutOff);
    assert.throws(() => parse(page.replace('</table>', '</body></html>')), cutOff);
  });
});

void describe('hostile names', () => {
  const nginx = (rows: string): string =>
    '<html><head><title>Index of /pub/</title></head><body><h1>Index of /pub/</h1><hr>' +
    `<pre><a href="../">../</a>\n${rows}</pre><hr></body></html>`;

  void test('names that no directory can hold are reported, others go on', () => {
    const rows = ['a%2Fb', 'a%00b', 'z'.repeat(256), 'good'].map(
      (href) => `<a href="${href}">x</a>\n`,
    );
    const { objects, skipped } = parse(nginx(rows.join('')));
    assert.deepEqual(
      objects.map((object) => object.name),
      ['good'],
    );
    assert.deepEqual(
      skipped.map(({ why }) => why),
      [
        'the name contains a slash',
        'the name contains a NUL byte',
        'the name is longer than 255 bytes',
      ],
    );
    const json =
      '[{"name":"a/b","type":"file"},{"name":"..","type":"directory"},{"name":"ok","type":"other"}]';
    const fromJson = parse(json, 'application/json');
    assert.deepEqual(fromJson.objects, [{ name: 'ok', kind: 'other' }]);
    assert.equal(fromJson.skipped.length, 2);
  });

  void test('links out of the directory are no entries', () => {
    const rows = [
      '/etc/passwd',
      '//evil/x',
      'http://evil/x',
      '../x',
      'a/b',
      '?x',
      '#y',
      'javascript:x',
    ]
      .map((href) => `<a href="${href}">x</a>\n`)
      .join('');
    assert.deepEqual(parse(nginx(rows)), { objects: [], skipped: [] });
  });

  void test('duplicates collapse, the first one counts', () => {
    const row = (size: number): string => `<a href="d">d</a>   04-Mar-2021 05:06    ${size}\n`;
    const { objects } = parse(nginx(row(1) + row(2)));
    assert.deepEqual(
      objects.map(({ sizeBytes }) => sizeBytes),
      [1],
    );
  });

  void test('raw bytes and entities in links, in UTF-8 and Latin-1', () => {
    const rows =
      '<a href="\u00e9">x</a>\n<a href="&eacute;2">x</a>\n<a href="&#233;3&amp;">x</a>\n';
    const expected = ['\u00e9', '\u00e92', '\u00e93&'];
    assert.deepEqual(names(nginx(rows)), expected);
    const latin1 = Buffer.from(nginx(rows), 'latin1');
    assert.deepEqual(names(latin1, 'text/html; charset=ISO-8859-1'), expected);
    assert.deepEqual(names(latin1, 'text/html'), ['\udce9', '\u00e92', '\u00e93&']);
    assert.deepEqual(names(nginx(rows), 'text/html; charset=no-such-charset'), expected);
  });

  void test('impossible dates and sizes are unknown, not wrong', () => {
    const rows =
      '<a href="a">a</a>   99-Mar-2021 05:06    12\n<a href="b">b</a>   04-Foo-2021 05:06    12\n' +
      '<a href="c">c</a>   04-Mar-2021 05:06    99999999999999999999\n<a href="d">d</a>   12\n' +
      '<a href="e">e</a>   04-Mar-2021 05:06    1.5K\n';
    const { objects } = parse(nginx(rows));
    assert.deepEqual(
      objects.map(({ sizeBytes }) => sizeBytes),
      Array.from({ length: 5 }, () => undefined),
    );
  });
});

void test('100,000 entries: batches come while the page arrives, memory stays bounded', () => {
  const parser = listingParser('http://host/pub/', { 'content-type': 'text/html' });
  const open =
    '<title>Index of /pub/</title><h1>Index of /pub/</h1><hr><pre><a href="../">../</a>\n';
  let count = parser.write(Buffer.from(open)).objects.length;
  for (let block = 0; block < 1000; block += 1) {
    let rows = '';
    for (let index = 0; index < 100; index += 1) {
      const name = `file-${block * 100 + index}.dat`;
      rows += `<a href="${name}">${name}</a>      04-Mar-2021 05:06     ${index}\n`;
    }
    const batch = parser.write(Buffer.from(rows));
    assert.ok(batch.objects.length >= 98 && batch.objects.length <= 102);
    count += batch.objects.length;
  }
  count += parser.write(Buffer.from('</pre>')).objects.length + parser.end().objects.length;
  assert.equal(count, 100_000);
});
