/**
 * A tree's daemon that ends too early: its main thread does not act upon what users change. It begins with that when
 * it is told of a change while the file exists that `EBB_FORGET_FROM` names, or when a planned restart has let
 * everybody go and there is a file of that name with `.held`: a program of a user (Python), which runs then. A byte is
 * added to the file with `.told` each time that something is not acted upon. A file with `.killed` is removed, and the
 * daemon killed, as soon as the tree was taken away.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const flag = process.env['EBB_FORGET_FROM'] ?? '';
const program = `${flag}.held`;
const told = `${flag}.told`;
const toldMaxMs = 60_000;
let forgets = false;

const { NativeServer } = await import('../../src/native/server.ts');
const { take, hold, close } = Object.getOwnPropertyDescriptors(NativeServer.prototype);

NativeServer.prototype.take = function (message) {
  const isOfChanges = message.kind === 'changed' || message.kind === 'changesTold';
  forgets ||= isOfChanges && existsSync(flag);
  if (!isOfChanges || !forgets) return take.value?.call(this, message);
  if (message.kind === 'changed') appendFileSync(told, '.');
};

NativeServer.prototype.hold = async function (maxMs) {
  await hold.value?.call(this, maxMs);
  if (!existsSync(program)) return;
  forgets = true;
  spawnSync('python3', [program], { timeout: toldMaxMs });
  rmSync(program);
  for (let waitedMs = 0; !existsSync(told) && waitedMs < toldMaxMs; waitedMs += 10) await sleep(10);
};

NativeServer.prototype.close = function () {
  if (existsSync(`${flag}.killed`)) {
    rmSync(`${flag}.killed`);
    process.kill(process.pid, 'SIGKILL');
  }
  close.value?.call(this);
};

await import('../../src/daemon/native-main.ts');
