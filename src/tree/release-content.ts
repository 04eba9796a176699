/** Release (release.ts) of one content of the flat tree. */
import { EbbError } from '../base/errors.ts';
import { syncFile } from '../sys/file-io.ts';
import { fileStatus } from '../sys/stat.ts';
import type { ContentStore } from './content-store.ts';
import { punchContent } from './local-io.ts';
import { releaseFiles } from './release.ts';
import type { ReleasePort, ReleaseRequest, ReleaseResult } from './release.ts';
import type { StoredContent } from './stored-content.ts';
import { truncateFile } from './truncate.ts';

/** Never throws for what the outside world does: every refusal is a result. */
export async function releaseContent(
  store: ContentStore,
  content: StoredContent,
  request: ReleaseRequest<StoredContent>,
): Promise<ReleaseResult> {
  const [result] = await releaseFiles(portOf(store), [content], request);
  return result as ReleaseResult;
}

function portOf(store: ContentStore): ReleasePort<StoredContent> {
  return {
    settled: ({ id }) => store.log.settled(id),
    begin: (content) => store.beginRelease(content),
    open: (content) => store.openForRelease(content),
    // Nobody but the daemon writes into the flat tree.
    isChanged: () => false,
    commit: (rows) => store.commit(rows),
    mark: async (content, row, fd) => {
      if (!store.marks.write(content, row, fd)) return false;
      await syncFile(fd);
      return true;
    },
    free: (content, fd) => {
      const before = fileStatus(fd).allocatedBytes;
      freeBlocks(fd, content.sizeBytes);
      return Math.max(before - fileStatus(fd).allocatedBytes, 0);
    },
  };
}

function freeBlocks(fd: number, sizeBytes: number): void {
  try {
    punchContent(fd, sizeBytes);
  } catch (error) {
    if (!(error instanceof EbbError) || error.code !== 'EOPNOTSUPP') throw error;
    // No holes here: cutting the file off and growing it again frees the same blocks.
    truncateFile(fd, 0);
    truncateFile(fd, sizeBytes);
  }
}
