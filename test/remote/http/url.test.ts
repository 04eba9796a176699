/** Links to names and names to paths. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { decodeName, isValidName } from '../../../src/base/name.ts';
import { listingBase, requestPath, resolveLink } from '../../../src/remote/http/url.ts';

const base = listingBase('http://host:81/pub/my%20dir/');

function child(name: string, directory = false): object {
  return { is: 'child', name, directory };
}

test('links to entries', () => {
  const cases: readonly [string, object][] = [
    ['plain', child('plain')],
    ['  plain\n', child('plain')],
    ['sub/', child('sub', true)],
    ['./a:b', child('a:b')],
    ['a%3Ab', child('a:b')],
    ['back\\slash', child('back\\slash')],
    ['a%20b', child('a b')],
    ['a+b', child('a+b')],
    ['100%', child('100%')],
    ['100%25', child('100%')],
    ['%2541', child('%41')],
    ['%4', child('%4')],
    ['%zz', child('%zz')],
    ['x%3Fy%23z', child('x?y#z')],
    ['x#fragment', child('x')],
    ['...', child('...')],
    ['%C3%A9', child('\u00e9')],
    ['\u00e9', child('\u00e9')],
    ['%E9', child('\udce9')],
    ['%0A', child('\n')],
    ['/pub/my%20dir/abs', child('abs')],
    ['/pub/my dir/abs/', child('abs', true)],
    ['/pub/%6dy%20dir/abs', child('abs')],
    ['../my%20dir/x', child('x')],
    ['./././x', child('x')],
    ['http://host:81/pub/my%20dir/x', child('x')],
    ['HTTP://HOST:81/pub/my%20dir/x', child('x')],
    ['//host:81/pub/my%20dir/x', child('x')],
  ];
  for (const [href, expected] of cases) assert.deepEqual(resolveLink(href, base), expected, href);
});

test('links to other things', () => {
  const cases: readonly [string, string][] = [
    ['', 'above'],
    ['#top', 'above'],
    ['.', 'above'],
    ['./', 'above'],
    ['..', 'above'],
    ['../', 'above'],
    ['%2e%2e/', 'above'],
    ['/', 'above'],
    ['/pub/', 'above'],
    ['../../../../', 'above'],
    ['?C=N;O=D', 'above'],
    ['./?sort=name', 'above'],
    ['x?download=1', 'inside'],
    ['sub/deeper', 'inside'],
    ['sub//', 'inside'],
    ['/icons/blank.gif', 'inside'],
    ['/pub/other/x', 'inside'],
    ['../other', 'inside'],
    ['http:evil', 'elsewhere'],
    ['http://other/pub/my%20dir/x', 'elsewhere'],
    ['https://host:81/pub/my%20dir/x', 'elsewhere'],
    ['http://host/pub/my%20dir/x', 'elsewhere'],
    ['//evil/pub/my%20dir/x', 'elsewhere'],
    ['http://user@other/pub/my%20dir/x', 'elsewhere'],
    ['mailto:someone@host', 'elsewhere'],
    ['javascript:alert(1)', 'elsewhere'],
    ['file:///etc/passwd', 'elsewhere'],
    ['%2F', 'skipped'],
    ['a%2Fb', 'skipped'],
    ['..%2F..%2Fetc%2Fpasswd', 'skipped'],
    ['a%00b', 'skipped'],
    ['y'.repeat(256), 'skipped'],
    ['%C3%BC'.repeat(128), 'skipped'],
  ];
  for (const [href, expected] of cases) assert.equal(resolveLink(href, base).is, expected, href);
});

test('every name survives the way into a link and back', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).map(decodeName).filter(isValidName);
  const property = fc.property(name, (name) => {
    const path = requestPath('/pub/my%20dir/', name, false);
    assert.match(path, /^\/pub\/my%20dir\/[A-Za-z0-9%._~-]+$/);
    assert.deepEqual(resolveLink(path, base), child(name));
    assert.deepEqual(
      resolveLink(`./${path.slice('/pub/my%20dir/'.length)}/`, base),
      child(name, true),
    );
  });
  fc.assert(property, { numRuns: 2000 });
});

test('a plain name means what it means by the long way', () => {
  const href = fc.stringMatching(/^[A-Za-z0-9_.~-]{1,210}\/?$/);
  const property = fc.property(href, (href) => {
    assert.deepEqual(resolveLink(href, base), resolveLink(`./${href}`, base));
  });
  fc.assert(property, { numRuns: 2000 });
});

test('no link is ever a name that no directory can hold', () => {
  const piece = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2F',
    '%2e',
    '%00',
    'a',
    '\\',
    ':',
    '?',
    '#',
    '%',
    'ü',
  );
  const href = fc.oneof(
    fc.string(),
    fc.array(piece).map((pieces) => pieces.join('')),
  );
  const property = fc.property(href, (href) => {
    const target = resolveLink(href, base);
    if (target.is === 'child') assert.ok(isValidName(target.name), target.name);
  });
  fc.assert(property, { numRuns: 5000 });
});

test('keys become paths', () => {
  assert.equal(requestPath('/', '', true), '/');
  assert.equal(requestPath('/b/', 'a b/c?d', false), '/b/a%20b/c%3Fd');
  assert.equal(requestPath('/b/', 'dir', true), '/b/dir/');
  for (const key of ['/a', 'a/', 'a//b', '.', 'a/..', 'a\0']) {
    assert.throws(() => requestPath('/', key, false), { code: 'EINVAL' }, key);
  }
});
