/** What `ebb demo` serves when no directory is given: one big file, a few small ones, some documentation. */
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';

const blockBytes = 1024 * 1024;
const copiedPackagesMax = 40;
const documentation = '/usr/share/doc';

/** Fills `directory` (existing, empty). Returns the name of the big file. */
export async function makeDemoContent(directory: string, bigFileBytes: number): Promise<string> {
  const big = 'big.bin';
  await writeBlocks(path.join(directory, big), bigFileBytes);
  writeFileSync(path.join(directory, 'README.txt'), 'Served by ebb demo.\n'.repeat(20));
  const notes = path.join(directory, 'notes');
  mkdirSync(notes);
  for (let index = 1; index <= 25; index += 1) {
    const name = `note-${String(index).padStart(2, '0')}.txt`;
    writeFileSync(path.join(notes, name), `Note ${index}.\n`.repeat(index * 10));
  }
  copyDocumentation(path.join(directory, 'doc'));
  return big;
}

/** One random block again and again, each stamped with its number, so that no two blocks are equal. */
async function writeBlocks(file: string, sizeBytes: number): Promise<void> {
  const block = randomBytes(blockBytes);
  await using handle = await open(file, 'w');
  for (let offset = 0; offset < sizeBytes; offset += blockBytes) {
    block.writeBigUInt64BE(BigInt(offset), 0);
    await handle.write(block, 0, Math.min(blockBytes, sizeBytes - offset), offset);
  }
}

function copyDocumentation(to: string): void {
  if (!existsSync(documentation)) return;
  for (const name of readdirSync(documentation).slice(0, copiedPackagesMax)) {
    try {
      const from = path.join(documentation, name);
      cpSync(from, path.join(to, name), { recursive: true, dereference: true });
    } catch {
      // A dangling link or a file that may not be read: the demo does without it.
    }
  }
}

/** Reads a whole file in big blocks; returns its SHA-256 and size. */
export async function digestFile(file: string): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash('sha256');
  const sizeBytes = await readBlocks(file, (bytes) => void hash.update(bytes));
  return { sha256: hash.digest('hex'), sizeBytes };
}

/** Reads a whole file in blocks of 1 MiB, as cat would; returns the count of bytes. */
export async function readBlocks(
  file: string,
  take: (bytes: Uint8Array) => void = () => {},
): Promise<number> {
  const buffer = Buffer.allocUnsafe(blockBytes);
  await using handle = await open(file, 'r');
  let offset = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, blockBytes, offset);
    if (bytesRead === 0) return offset;
    take(buffer.subarray(0, bytesRead));
    offset += bytesRead;
  }
}
