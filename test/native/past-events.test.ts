/** Ways to a file of which no event tells, or none that can be told from others: what is read there all the same. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { killAtExit, killGroup } from '../support/run.ts';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import { nativeScene } from './native-scene.ts';

const MiB = 1024 * 1024;
const sizeBytes = 3 * MiB;
const types = ['ext4', 'xfs', 'btrfs'] as const;

/** [file, class, event]: who is asked for permission (FAN_OPEN_PERM), and who is told only (FAN_OPEN). */
const listeners = [
  ['asked', 4, 0x1_0000],
  ['told', 0, 0x20],
] as const;

/**
 * A virus scanner, as it were: hears that somebody opens a file, and reads the middle of it through the descriptor that
 * the kernel gives with the event. It must let all others go on, us included.
 */
const scanner = `
import ctypes, os, select, struct, subprocess, sys
name, group_class, mask = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
group = libc.fanotify_init(group_class | 1, os.O_RDONLY)
if group < 0 or libc.fanotify_mark(group, 0x101, ctypes.c_uint64(mask), -100, b".") != 0:
    sys.exit(f"no group: {ctypes.get_errno()}")
opener = subprocess.Popen(["head", "-c", "0", name])
seen = None
while seen is None or opener.poll() is None:
    if not select.select([group], [], [], 0.05)[0]:
        continue
    events = os.read(group, 4096)
    while events:
        length, _, _, _, event, fd, pid = struct.unpack("IBBHQii", events[:24])
        events = events[length:]
        if pid == opener.pid and seen is None:
            seen = os.pread(fd, 65536, 1 << 20)
        if event & 0x70000:
            os.write(group, struct.pack("iI", fd, 1))
        os.close(fd)
sys.stdout.buffer.write(seen)`;

for (const type of types) {
  test(`${type}: another listener's descriptor reads past us, and the right bytes where all is brought`, async () => {
    const seenWith = async (verdict: 'allow' | 'whole'): Promise<Buffer[]> => {
      const verdicts = [{ executable: '*', verdict }];
      await using scene = await nativeScene(type, { policy: { verdicts } });
      const seen: Buffer[] = [];
      for (const [name, groupClass, mask] of listeners) {
        scene.add(name, sizeBytes);
        const script = `exec timeout -s KILL 50 python3 -c "$SCANNER" ${name} ${groupClass} ${mask}`;
        const { code, stdout, stderr } = await scene.shell(script, { env: { SCANNER: scanner } });
        assert.equal(code, 0, stderr.toString());
        seen.push(stdout);
      }
      assert.deepEqual(scene.problems, []);
      return seen;
    };
    for (const past of await seenWith('allow')) {
      // Known, and told by ebb doctor. A kernel that asks us would be news.
      if (type === 'ext4') assert.ok(past.length > 0 && past.every((byte) => byte === 0));
      else assert.match(past.toString(), /^Ebb: this content is not here/);
    }
    for (const bytes of await seenWith('whole'))
      assert.ok(bytes.equals(patternBytes(1, 65_536, MiB)));
  });

  test(`${type}: what is mapped through an overlay and closed is not released before it is unmapped`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', sizeBytes);
    const model = path.join(scene.scratch, 'model');
    writeFileSync(model, patternBytes(1, sizeBytes));
    await scene.shellOk(`cd "$SCRATCH"; mkdir upper work merged
      mount -t overlay overlay -o "lowerdir=$TREE,upperdir=upper,workdir=work" merged`);
    try {
      const program = `
import mmap, os, sys
fd = os.open("merged/f", os.O_RDONLY)
mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
os.close(fd)
open("mapped", "w").close()
sys.stdin.read()
sys.exit(0 if mapped[:] == open("model", "rb").read() else "wrong bytes")`;
      const mapper = spawn('python3', ['-c', program], {
        cwd: scene.scratch,
        stdio: ['pipe', 'inherit', 'inherit'],
        detached: true,
      });
      killAtExit(mapper);
      try {
        await waitFor(() => existsSync(path.join(scene.scratch, 'mapped')), {
          what: 'the mapping',
          timeoutMs: 30_000,
        });
        const refused = await scene.release(file);
        assert.deepEqual(refused.released ? 'released' : refused.refusal, 'open');
        const ended = once(mapper, 'exit');
        mapper.stdin.end();
        assert.deepEqual(await ended, [0, null]);
      } finally {
        killGroup(mapper);
      }
      assert.equal((await scene.release(file)).released, true);
      await scene.shellOk('cmp "$SCRATCH/merged/f" "$SCRATCH/model"');
    } finally {
      await scene.shellOk('umount "$SCRATCH/merged"');
    }
  });

  test(`${type}: what nobody may write to (chattr +i, +a) is EIO until it is allowed again`, async () => {
    await using scene = await nativeScene(type);
    writeFileSync(path.join(scene.scratch, 'model'), patternBytes(1, sizeBytes));
    for (const flag of ['i', 'a']) {
      scene.add(flag, sizeBytes);
      const { code, stderr } = await scene.shell(`chattr +${flag} ${flag} && cat ${flag} | wc -c`);
      assert.equal(code, 0);
      assert.match(stderr.toString(), /Input\/output error/);
      await scene.shellOk(`chattr -${flag} ${flag}; cmp ${flag} "$SCRATCH/model"`);
    }
  });
}
