/**
 * A tree under a real systemd, by the unit in setup/: the order of a boot, Type=notify, the descriptor store, stopping
 * and turning off. ext4: a stub that nobody guards is zeros there.
 */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { TreeStatus } from '../../src/daemon/api.ts';
import { treeFilesystems } from '../support/attached-tree.ts';
import { compileHelper } from '../probes/probe.ts';
import { CorpusWriter, mebibyte } from '../support/corpus.ts';
import { ServingHammer } from '../support/hammer.ts';
import { patience } from '../support/patience.ts';
import { runOk } from '../support/run.ts';
import type { RunResult } from '../support/run.ts';
import { NoSystemd, Systemd, whyNoSystemd } from '../support/systemd.ts';
import { loopFilesystem, temporaryDirectory } from '../support/temporary.ts';
import { waitFor } from '../support/wait-for.ts';

const wantsAll = process.env['EBB_SYSTEMD'] === 'all';
/** What the kernel and systemd do is the same for all: ext4, where it would be seen best, unless there is time. */
const types = wantsAll ? treeFilesystems : (['ext4'] as const);
const tree = '/srv/disk/tree';
const unit = 'ebb-tree@srv-disk-tree.service';
const unitFile = path.join(import.meta.dirname, '../../setup/ebb-tree@.service');
const waitMaxMs = 60_000;
/** Who dies, and the files of which somebody waits for a part at that moment. */
const deaths = (
  [
    { victims: ['main', 'supervisor', 'daemon'], cold: ['small-0', 'large-0'] },
    { victims: ['supervisor'], cold: ['small-1', 'large-1'] },
    { victims: ['main'], cold: ['small-2', 'large-2'] },
    { victims: ['supervisor', 'daemon'], cold: ['small-3', 'large-3'] },
  ] as const
).slice(0, wantsAll ? 4 : 1);
const ownNames: readonly string[] = ['early', 'needed', 'large-last', 'restarted'];
const names = ownNames.concat(deaths.flatMap(({ cold }) => cold));

/** `cmp` of a file of the tree with its source: 1 says that bytes are wrong. */
const compare = (name: string): string => `cmp ${tree}/${name} /run/test/source/${name}`;

const service = (script: string, more: string): string => `[Unit]
RequiresMountsFor=/srv/disk
${more}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /run/test/${script}
[Install]
WantedBy=multi-user.target
`;

/** What runs at boot beside the tree, and what each of these writes down about it. */
const scripts = {
  before: `ls -A ${tree}`,
  needs: `${compare('needed')} && echo right`,
  watches: [
    `while :; do ${compare('early')} 2>/dev/null`,
    'case $? in 0) echo right; exit;; 1) echo wrong; exit;; esac',
    'sleep 0.02; done',
  ].join('\n'),
};

const units = (device: string): Record<string, string> => ({
  'ebb-tree@.service': readFileSync(unitFile, 'utf8'),
  'ebb-tree@.service.d/test.conf':
    '[Service]\nRestartSec=100ms\nStandardError=append:/run/test/log\n',
  'srv-disk.mount': `[Mount]\nWhat=${device}\nWhere=/srv/disk\nOptions=noatime\n`,
  'before.service': service('before', `Before=${unit}`),
  'needs.service': service('needs', `Requires=${unit}\nAfter=${unit}`),
  'watches.service': service('watches', ''),
});

/** The tree is attached once by hand and taken away, and the machine turned off. */
const prepare = (device: string): string => `
mount ${device} /srv/disk
mkdir ${tree}
ebb attach --no-standby ${tree} /run/test/source
ebb umount ${tree}
for try in $(seq 100); do umount /srv/disk && break; sleep 0.2; done
systemctl enable ${unit} before.service needs.service watches.service
`;

function assertRightOrRefused({ code, stderr }: RunResult, said: string): void {
  if (code === 0) return;
  assert.equal(code, 2, `${said}: ${stderr.toString()}`);
  assert.match(stderr.toString(), /Input\/output error/, said);
}

async function statusOf(systemd: Systemd): Promise<TreeStatus> {
  const parsed = JSON.parse(await systemd.say('ebb', 'status', '--json', tree)) as
    | TreeStatus
    | TreeStatus[];
  const status = Array.isArray(parsed) ? parsed[0] : parsed;
  assert.ok(status);
  return status;
}

/** Starts to read what is not here; resolves when all of them wait for the tree's daemon. */
async function readBlocked(
  systemd: Systemd,
  directory: string,
  cold: readonly string[],
): Promise<Promise<RunResult>[]> {
  const reading = cold.map((name) =>
    systemd.run('sh', ['-c', `echo $$ >/run/test/reader-${name}; exec ${compare(name)}`]),
  );
  for (const name of cold) {
    await waitFor(
      async () => {
        const pid = readFileSync(path.join(directory, `reader-${name}`), 'utf8').trim();
        return /fanotify/.test(await systemd.say('cat', `/proc/${pid}/wchan`));
      },
      { what: `the reader of ${name} to wait for the daemon`, timeoutMs: waitMaxMs },
    );
  }
  return reading;
}

for (const type of types) {
  const title = `${type}: a real systemd boots, keeps, stops and turns off a tree with the unit of setup/`;
  test(title, { timeout: patience * 300_000 }, async (context) => {
    const why = whyNoSystemd();
    if (why !== undefined) return context.skip(why);
    await using place = await temporaryDirectory('systemd');
    const directory = place.path;
    const writer = new CorpusWriter(path.join(directory, 'source'));
    for (const name of names) {
      writer.bytes(name, name.startsWith('large') ? 3 * mebibyte + 77 : 50_000 + name.length);
    }
    for (const [name, script] of Object.entries(scripts)) {
      writeFileSync(path.join(directory, name), `exec >/run/test/seen-${name}\n${script}\n`);
    }
    const helper = await compileHelper(directory, 'hammer');
    await using disk = await loopFilesystem({ type });
    // Nobody but systemd is to mount it.
    await runOk('umount', [disk.path]);
    const { device } = disk;
    const options = { units: units(device), prepare: prepare(device), directory };
    const booted = await Systemd.boot(options).catch((error: unknown) => error);
    if (booted instanceof NoSystemd) return context.skip(booted.message);
    if (!(booted instanceof Systemd)) throw booted;
    await using systemd = booted;
    const log = (): string => readFileSync(path.join(directory, 'log'), 'utf8').slice(-4_000);
    const seen = (name: keyof typeof scripts): Promise<string> =>
      waitFor(
        () => {
          const file = path.join(directory, `seen-${name}`);
          return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
        },
        { what: `${name}.service to have looked`, timeoutMs: waitMaxMs },
      );
    const kept = async (): Promise<number> =>
      Number((await systemd.show(unit, 'NFileDescriptorStore'))[0]);

    // Boot: who comes first sees no tree, who needs it has it, who does not wait never sees anything else.
    assert.equal(await seen('before'), '.ebb\n');
    assert.equal(await seen('needs'), 'right\n');
    assert.equal(await seen('watches'), 'right\n');
    assert.deepEqual(await systemd.show(unit, 'ActiveState', 'SubState', 'NRestarts'), [
      'active',
      'running',
      '0',
    ]);
    assert.equal(await kept(), 8, log());
    const mount = systemd.mountAt(tree);
    assert.ok(mount);

    for (const [round, { victims, cold }] of deaths.entries()) {
      const said = `${victims.join(', ')} killed`;
      const { pid, supervisorPid } = await statusOf(systemd);
      const [main] = await systemd.show(unit, 'MainPID');
      const pids = { main, supervisor: supervisorPid, daemon: pid };
      await systemd.say('kill', '-STOP', String(pid));
      const reading = await readBlocked(systemd, directory, cold);
      const all = victims.map((victim) => pids[victim]).join(' ');
      await systemd.say('sh', '-c', `kill -STOP ${all}; kill -KILL ${all}`);
      for (const result of await Promise.all(reading)) assertRightOrRefused(result, said);
      await waitFor(
        async () => {
          const [restarts, state] = await systemd.show(unit, 'NRestarts', 'SubState');
          return Number(restarts) === round + 1 && state === 'running';
        },
        { what: `${said}: systemd to have it back`, timeoutMs: waitMaxMs },
      );
      assert.equal(await kept(), 8, `${said}: ${log()}`);
      assert.equal(systemd.mountAt(tree), mount, `${said}: another mount`);
      for (const name of cold) await systemd.say('sh', '-c', compare(name));
    }

    // Stopping waits for who has files open, and denies him what is not here.
    const wrapper = path.join(directory, 'inside');
    writeFileSync(
      wrapper,
      `#!/bin/sh\nexec ${systemd.inside.join(' ')} ${helper.replace(directory, '/run/test')} "$@"\n`,
    );
    chmodSync(wrapper, 0o755);
    using hammer = new ServingHammer(wrapper);
    assert.equal(await hammer.ask(`open 0 ${tree}/large-last /run/test/source/large-last`), 'ok 0');
    const { pid: last } = await statusOf(systemd);
    await systemd.say('systemctl', 'stop', '--no-block', unit);
    await waitFor(async () => (await systemd.run('kill', ['-0', String(last)])).code !== 0, {
      what: 'the daemon to end',
      timeoutMs: waitMaxMs,
    });
    assert.equal(systemd.mountAt(tree), undefined);
    assert.equal(await systemd.say('ls', '-A', tree), '.ebb');
    assert.equal((await systemd.show(unit, 'ActiveState'))[0], 'deactivating');
    assert.equal(await hammer.ask('pread 0 2000000 4096'), 'errno 5');
    hammer[Symbol.dispose]();
    await waitFor(async () => (await systemd.show(unit, 'ActiveState'))[0] === 'inactive', {
      what: 'the service to stop',
      timeoutMs: waitMaxMs,
    });
    assert.equal(await kept(), 0);

    await systemd.say('systemctl', 'start', unit);
    await systemd.say('sh', '-c', compare('restarted'));
    await systemd.say('systemctl', 'poweroff');
    await systemd.ended();
    await runOk('mount', [device, disk.path]);
    assert.deepEqual(readdirSync(path.join(disk.path, 'tree')), ['.ebb']);
  });
}
