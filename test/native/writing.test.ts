/** Writers of a served native tree: what is recorded before they are let in, and what is left afterwards. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { patternBytes } from '../support/pattern.ts';
import { waitFor } from '../support/wait-for.ts';
import type { StubFile } from '../../src/tree/stubs/stub-store.ts';
import { nativeScene } from './native-scene.ts';
import type { NativeScene } from './native-scene.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const [clean, intent, dirty] = [0, 1, 3] as const;

/** Python that runs in steps: prints `ready` at each `pause()`, and goes on when a line comes. */
class Program implements AsyncDisposable {
  readonly #child;
  #said = '';

  constructor(scene: NativeScene, program: string) {
    const prelude = `
import errno, mmap, os, sys
os.chdir(sys.argv[1])
def pause():
    print("ready", flush=True)
    sys.stdin.readline()
`;
    this.#child = spawn('python3', ['-c', prelude + program, scene.path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout.on('data', (bytes: Buffer) => (this.#said += bytes.toString()));
  }

  /** The program has come to its next pause. */
  async paused(): Promise<void> {
    await waitFor(() => this.#said.includes('ready'), { what: 'the program', timeoutMs: 20_000 });
    this.#said = this.#said.replace('ready\n', '');
  }

  goOn(): void {
    this.#child.stdin.write('\n');
  }

  async ended(): Promise<string> {
    const [code] = this.#child.exitCode === null ? await once(this.#child, 'exit') : [0];
    assert.equal(code, 0);
    return this.#said;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    return Promise.resolve();
  }
}

async function becomes(file: StubFile, change: number): Promise<void> {
  await waitFor(() => file.change === change, { what: `change ${change}`, timeoutMs: 15_000 });
}

function recorded(scene: NativeScene, file: StubFile): number | undefined {
  return scene.catalog.get(file.id)?.change;
}

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`${type}: a writer finds all of it, and intent recorded; what he writes stays`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 5 * MiB + 17);
    await using writer = new Program(
      scene,
      `
fd = os.open("f", os.O_WRONLY)
pause()
os.pwrite(fd, b"new", 1000000)
pause()
os.close(fd)`,
    );
    await writer.paused();
    assert.equal(recorded(scene, file), intent);
    assert.ok(file.residency.complete);
    writer.goOn();
    await writer.paused();
    await becomes(file, dirty);
    assert.equal(recorded(scene, file), dirty);
    writer.goOn();
    await writer.ended();
    const expected = patternBytes(1, 5 * MiB + 17);
    expected.write('new', 1_000_000);
    assert.ok((await scene.shell('cat f')).stdout.equals(expected));
    assert.equal((await scene.release(file)).released, false);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: who opens for writing and changes nothing leaves the file clean`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await using writer = new Program(scene, 'fd = os.open("f", os.O_RDWR); pause()');
    await writer.paused();
    assert.equal(file.change, intent);
    await scene.server.resolve(file);
    assert.equal(file.change, intent, 'as long as he may write');
    writer.goOn();
    await writer.ended();
    await becomes(file, clean);
    assert.equal(recorded(scene, file), clean);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: a writer through a mapping, who closes and sets the old time, has changed it`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await scene.shellOk(`touch -r f "$SCRATCH/time"; python3 -c '
import mmap, os
fd = os.open("f", os.O_RDWR)
m = mmap.mmap(fd, 0)
os.close(fd)
m[2000000:2000003] = b"abc"
m.close()'; touch -r "$SCRATCH/time" f`);
    await becomes(file, dirty);
  });

  test(`${type}: emptying a file fetches nothing, however it is opened`, async () => {
    const ways: readonly [name: string, program: string][] = [
      ['shell', ': > $f'],
      ['read-only', `python3 -c 'import os; os.open("'$f'", os.O_RDONLY | os.O_TRUNC)'`],
      ['truncate(2)', `python3 -c 'import os; os.truncate("'$f'", 0)'`],
      [
        'openat2',
        `python3 -c 'import ctypes, os, struct
how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_WRONLY | os.O_TRUNC, 0, 0), 24)
assert ctypes.CDLL(None).syscall(437, -100, b"'$f'", how, 24) >= 0'`,
      ],
    ];
    await using scene = await nativeScene(type);
    for (const [index, [name, program]] of ways.entries()) {
      const file = scene.add(`f${index}`, 3 * MiB);
      await scene.shellOk(`f=f${index}; ${program}; test ! -s $f`);
      await becomes(file, dirty);
      // Grown again: zeros, and nothing of the old.
      await scene.shellOk(
        `truncate -s 1000000 f${index}; head -c 1000000 /dev/zero | cmp - f${index}`,
      );
      assert.equal(scene.fetchedBytes(), 0, name);
    }
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: truncate(2) in the middle of a partly resident file cuts the right bytes`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    const cut = 1_000_001;
    // The chunk of the new end is here, the rest is not.
    await scene.shellOk(`tail -c +${cut} f | head -c 1 > /dev/null`);
    assert.ok(!file.residency.complete && file.residency.has(cut, 1));
    await scene.shellOk(`python3 -c 'import os; os.truncate("f", ${cut})'`);
    assert.ok((await scene.shell('cat f')).stdout.equals(patternBytes(1, cut)));
    await becomes(file, dirty);
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: a reader of cold bytes and one who empties the file: no byte that nobody wrote`, async () => {
    await using scene = await nativeScene(type);
    const sizeBytes = 3 * MiB;
    const file = scene.add('f', sizeBytes);
    await scene.shellOk('head -c 1000 f > /dev/null');
    scene.fault = () => ({ kind: 'stall' });
    const reading = scene.shell('dd if=f bs=64k skip=32 count=4 status=none');
    await waitFor(() => scene.server.counters().pending === 1, { what: 'the reader to wait' });
    await scene.shellOk(': > f');
    // The file is empty by now, so there is nothing at that place.
    assert.equal((await reading).stdout.length, 0);
    assert.equal((await scene.shellOk('stat -c %s f')).trim(), '0');
    await becomes(file, dirty);
    scene.fault = undefined;
    await scene.shellOk('printf new > f; test "$(cat f)" = new');
    assert.deepEqual(scene.problems, []);
  });

  test(`${type}: writers of what is all here are noticed, also when they set the old time`, async () => {
    await using scene = await nativeScene(type);
    const file = scene.add('f', 3 * MiB);
    await scene.shellOk('cat f > /dev/null');
    await scene.store.settled(file.id);
    await scene.shellOk(`cat f > /dev/null; touch -r f "$SCRATCH/time"
      printf XYZ | dd of=f bs=1 seek=5 conv=notrunc status=none; touch -r "$SCRATCH/time" f`);
    await scene.server.changesTakenIn();
    assert.equal((await scene.release(file)).released, false);
    await becomes(file, dirty);
  });
}

test('a writer who cannot have all of the file is not let in, and the file stays clean', async () => {
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', 3 * MiB);
  scene.fault = () => ({ kind: 'error', error: { code: 'ECONNRESET', retryable: false } });
  const failed = await scene.shell('printf X | dd of=f bs=1 seek=5 conv=notrunc');
  assert.match(failed.stderr.toString(), /Input\/output error/);
  assert.equal(file.change, clean);
  scene.fault = undefined;
  assert.ok((await scene.shell('cat f')).stdout.equals(patternBytes(1, 3 * MiB)));
});

test('a 64-bit program that opens for writing by a 32-bit call is a writer', async (context) => {
  if (process.arch !== 'x64') return context.skip('only x86-64 has two ways into the kernel');
  await using scene = await nativeScene('xfs');
  const file = scene.add('f', 3 * MiB);
  const program = `
static const char name[] = "f";
int main(void) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(295), "b"(-100), "c"((long)name), "d"(2), "S"(0)
    : "memory", "r8", "r9", "r10", "r11");
  return result < 0;
}`;
  // Its addresses must fit into 32 bits.
  const script = 'gcc -x c -no-pie -o "$SCRATCH/opens" - && exec "$SCRATCH/opens"';
  const { code } = await scene.shell(script, { input: Buffer.from(program) });
  if (code !== 0) return context.skip('this kernel takes no 32-bit calls');
  assert.ok(file.residency.complete);
  assert.equal(scene.server.counters().intents, 1);
});

test('an unlinked or renamed file is still the same one to its readers and writers', async () => {
  await using scene = await nativeScene('btrfs');
  const file = scene.add('f', 3 * MiB);
  scene.add('g', 3 * MiB, { seed: 2 });
  await scene.shellOk(
    'mkdir d; mv f d/renamed; exec 3< g; mv d/renamed g; cat <&3 > "$SCRATCH/old"',
  );
  const old = await scene.shell('cat "$SCRATCH/old"');
  assert.ok(old.stdout.equals(patternBytes(2, 3 * MiB)));
  await scene.shellOk('printf tail >> g');
  const expected = Buffer.concat([patternBytes(1, 3 * MiB), Buffer.from('tail')]);
  assert.ok((await scene.shell('cat g')).stdout.equals(expected));
  await becomes(file, dirty);
});
