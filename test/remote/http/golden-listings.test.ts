/** Pages captured from real servers (golden/capture.ts), parsed whole and in pieces. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import fc from 'fast-check';

import { decodeName } from '../../../src/base/name.ts';
import { listingParser } from '../../../src/remote/http/listing/listing-parser.ts';
import type { ListedObject, ListingBatch } from '../../../src/remote/remote.ts';
import { hostileNames, hostileRawNames, treeMtimeSeconds } from '../../support/hostile-tree.ts';

const directory = path.join(import.meta.dirname, 'golden');

interface Golden {
  readonly file: string;
  readonly type: string;
  readonly hidesDotfiles: boolean;
  /** What closes the list. */
  readonly end: string;
}

const goldens: readonly Golden[] = [
  { file: 'nginx.*.html', type: 'text/html', hidesDotfiles: true, end: '</pre>' },
  { file: 'nginx-rounded.*.html', type: 'text/html', hidesDotfiles: true, end: '</pre>' },
  { file: 'nginx-json.*.json', type: 'application/json', hidesDotfiles: true, end: ']' },
  {
    file: 'apache-plain.*.html',
    type: 'text/html;charset=ISO-8859-1',
    hidesDotfiles: false,
    end: '</ul>',
  },
  {
    file: 'apache-fancy.*.html',
    type: 'text/html;charset=ISO-8859-1',
    hidesDotfiles: false,
    end: '</pre>',
  },
  {
    file: 'apache-table.*.html',
    type: 'text/html;charset=ISO-8859-1',
    hidesDotfiles: false,
    end: '</table>',
  },
  {
    file: 'lighttpd.*.html',
    type: 'text/html; charset=utf-8',
    hidesDotfiles: false,
    end: '</table>',
  },
  { file: 'caddy.*.html', type: 'text/html; charset=utf-8', hidesDotfiles: false, end: '</table>' },
  {
    file: 'caddy-json.*.json',
    type: 'application/json; charset=utf-8',
    hidesDotfiles: false,
    end: ']',
  },
  { file: 'python.*.html', type: 'text/html; charset=utf-8', hidesDotfiles: false, end: '</ul>' },
];

function goldenBytes(golden: Golden, page: string): Uint8Array {
  return readFileSync(path.join(directory, golden.file.replace('*', page)));
}

function urlOf(page: string): string {
  return page === 'root' ? 'http://127.0.0.1/' : `http://127.0.0.1/${page}/`;
}

function parse(golden: Golden, page: string, pieces: readonly Uint8Array[]): ListingBatch {
  const parser = listingParser(urlOf(page), { 'content-type': golden.type });
  const batches = [...pieces.map((piece) => parser.write(piece)), parser.end()];
  return {
    objects: batches.flatMap((batch) => batch.objects),
    skipped: batches.flatMap((batch) => batch.skipped),
  };
}

function byName(objects: readonly ListedObject[]): Map<string, ListedObject> {
  return new Map(objects.map((object) => [object.name, object]));
}

for (const golden of goldens) {
  const family = golden.file.split('.', 1)[0] ?? '';

  test(`${family}: a plain directory`, () => {
    const { objects, skipped } = parse(golden, 'root', [goldenBytes(golden, 'root')]);
    assert.deepEqual(skipped, []);
    const hidden = golden.hidesDotfiles ? [] : ['.dotdir', '.hidden'];
    const expected = [...hidden, 'big.bin', 'deep', 'empty', 'hostile', 'loop', 'small', 'zero'];
    assert.deepEqual(objects.map((object) => object.name).sort(), expected);
    const found = byName(objects);
    for (const name of ['deep', 'empty', 'hostile', 'loop']) {
      assert.equal(found.get(name)?.kind, 'directory');
      assert.equal(found.get(name)?.sizeBytes, undefined);
    }
    for (const name of ['big.bin', 'small', 'zero']) assert.equal(found.get(name)?.kind, 'file');
  });

  test(`${family}: names of every kind`, () => {
    const { objects, skipped } = parse(golden, 'hostile', [goldenBytes(golden, 'hostile')]);
    assert.deepEqual(skipped, []);
    const raw =
      family === 'python'
        ? hostileRawNames.map(surrogatesAsBytes)
        : hostileRawNames.map(decodeName);
    assert.deepEqual(
      objects.map((object) => object.name).sort(),
      [...hostileNames, ...raw, 'sub dir']
        .filter((name) => !golden.hidesDotfiles || !name.startsWith('.'))
        .sort(),
    );
    assert.equal(byName(objects).get('sub dir')?.kind, 'directory');
  });

  test(`${family}: an empty directory`, () => {
    assert.deepEqual(parse(golden, 'empty', [goldenBytes(golden, 'empty')]), {
      objects: [],
      skipped: [],
    });
  });

  test(`${family}: the same in pieces of any size`, () => {
    const bytes = goldenBytes(golden, 'hostile');
    const whole = parse(golden, 'hostile', [bytes]);
    const property = fc.property(fc.array(fc.nat(bytes.length), { maxLength: 20 }), (cuts) => {
      const sorted = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      const pieces = sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end));
      assert.deepEqual(parse(golden, 'hostile', pieces), whole);
    });
    fc.assert(property, { numRuns: 30 });
    const bytewise = Array.from(bytes, (_, index) => bytes.subarray(index, index + 1));
    assert.deepEqual(parse(golden, 'hostile', bytewise), whole);
  });

  test(`${family}: a page that was cut is never a listing`, () => {
    const bytes = goldenBytes(golden, 'hostile');
    const text = Buffer.from(bytes).toString('latin1');
    const endOfList = golden.end === ']' ? text.lastIndexOf(']') : text.indexOf(golden.end);
    const property = fc.property(fc.nat(endOfList), (length) => {
      assert.throws(() => parse(golden, 'hostile', [bytes.subarray(0, length)]), {
        name: 'EbbError',
      });
    });
    fc.assert(property, { numRuns: 50, examples: [[0], [endOfList - 1]] });
  });
}

/** How Python's server writes a byte that is not UTF-8: as the UTF-8 form of its surrogate. */
function surrogatesAsBytes(raw: Uint8Array): string {
  const bytes: number[] = [];
  for (const character of decodeName(raw)) {
    const unit = character.charCodeAt(0);
    if (unit < 0xdc80 || unit > 0xdcff) bytes.push(...Buffer.from(character, 'utf8'));
    else bytes.push(0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f));
  }
  return decodeName(Uint8Array.from(bytes));
}

function facts(family: string, page = 'root'): Map<string, ListedObject> {
  const golden = goldens.find((one) => one.file.startsWith(`${family}.`));
  assert.ok(golden);
  return byName(parse(golden, page, [goldenBytes(golden, page)]).objects);
}

const minute = { seconds: treeMtimeSeconds - (treeMtimeSeconds % 60), nanoseconds: 0 };
const second = { seconds: treeMtimeSeconds, nanoseconds: 0 };

test('nginx: sizes are exact, times are rounded to the minute', () => {
  const big = { name: 'big.bin', kind: 'file', sizeBytes: 3_145_728, roundedMtime: minute };
  assert.deepEqual(facts('nginx').get('big.bin'), big);
  assert.equal(facts('nginx').get('zero')?.sizeBytes, 0);
  assert.equal(
    facts('nginx', 'hostile').get('x'.repeat(80) + '-long-name-cut-by-nginx.txt')?.sizeBytes,
    107,
  );
  assert.equal(facts('nginx', 'hostile').get('new\nline')?.sizeBytes, 8);
});

test('nginx without exact sizes: only digits alone are believed', () => {
  assert.equal(facts('nginx-rounded').get('big.bin')?.sizeBytes, undefined);
  assert.equal(facts('nginx-rounded').get('small')?.sizeBytes, 5);
});

test('Apache: sizes below 1000 are exact, others unknown', () => {
  for (const family of ['apache-fancy', 'apache-table']) {
    assert.equal(facts(family).get('big.bin')?.sizeBytes, undefined);
    assert.equal(facts(family).get('small')?.sizeBytes, 5);
    assert.equal(facts(family).get('zero')?.sizeBytes, 0);
  }
  assert.deepEqual(facts('apache-table').get('big.bin')?.roundedMtime, minute);
  assert.deepEqual(facts('apache-plain').get('small'), { name: 'small', kind: 'file' });
});

test('lighttpd and the HTML of Caddy: no size, a time that nobody vouches for', () => {
  for (const family of ['lighttpd', 'caddy']) {
    const small = { name: 'small', kind: 'file', roundedMtime: second };
    assert.deepEqual(facts(family).get('small'), small);
  }
});

test('JSON: sizes and times are exact', () => {
  for (const family of ['nginx-json', 'caddy-json']) {
    const big = { name: 'big.bin', kind: 'file', sizeBytes: 3_145_728, mtime: second };
    assert.deepEqual(facts(family).get('big.bin'), big);
    assert.equal(facts(family).get('zero')?.sizeBytes, 0);
  }
});
