import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { test } from 'node:test';
import { isEnding, isEndingBy } from '../../src/base/process-signals.ts';

type Name = keyof typeof constants.signals;

function mask(...names: readonly Name[]): string {
  const bits = names.map((name) => 1n << BigInt(constants.signals[name] - 1));
  return bits
    .reduce((all, bit) => all | bit, 0n)
    .toString(16)
    .padStart(16, '0');
}

interface Signals {
  readonly own?: readonly Name[];
  readonly shared?: readonly Name[];
  readonly blocked?: readonly Name[];
  readonly ignored?: readonly Name[];
  readonly caught?: readonly Name[];
}

function status({
  own = [],
  shared = [],
  blocked = [],
  ignored = [],
  caught = [],
}: Signals): string {
  return [
    'Name:\tprogram',
    'SigQ:\t1/96365',
    `SigPnd:\t${mask(...own)}`,
    `ShdPnd:\t${mask(...shared)}`,
    `SigBlk:\t${mask(...blocked)}`,
    `SigIgn:\t${mask(...ignored)}`,
    `SigCgt:\t${mask(...caught)}`,
    'CapInh:\t0000000000000000',
    '',
  ].join('\n');
}

test('what ends a program, and what it survives', () => {
  const ends = (signals: Signals): boolean => isEndingBy(status(signals));
  assert.equal(ends({}), false);
  assert.equal(ends({ own: ['SIGKILL'] }), true);
  assert.equal(ends({ own: ['SIGKILL', 'SIGALRM'], caught: ['SIGALRM'] }), true);
  for (const name of ['SIGALRM', 'SIGTERM', 'SIGUSR1', 'SIGQUIT', 'SIGPROF'] as const) {
    assert.equal(ends({ shared: [name] }), true, name);
    assert.equal(ends({ own: [name] }), true, name);
    assert.equal(ends({ shared: [name], caught: [name] }), false, `${name}, caught`);
    assert.equal(ends({ shared: [name], ignored: [name] }), false, `${name}, ignored`);
    assert.equal(ends({ shared: [name], blocked: [name] }), false, `${name}, blocked`);
  }
  for (const name of ['SIGCHLD', 'SIGURG', 'SIGWINCH', 'SIGCONT', 'SIGTSTP', 'SIGSTOP'] as const) {
    assert.equal(ends({ shared: [name] }), false, name);
  }
  assert.equal(ends({ shared: ['SIGINT'], caught: ['SIGINT'] }), true, 'Ctrl-C');
  assert.equal(ends({ shared: ['SIGINT'], ignored: ['SIGINT'] }), false);
  assert.equal(ends({ shared: ['SIGINT'], blocked: ['SIGINT'] }), false);
});

test('threads as they are: alive, gone, unknown', async () => {
  assert.equal(isEnding(process.pid), false);
  assert.equal(isEnding(0), true);
  const child = spawn('true');
  await once(child, 'exit');
  assert.equal(isEnding(child.pid ?? 0), true);
});
