/** What daemons read of their environment once, before their first line runs. */
export const daemonEnvironment = {
  // libuv: syncs of the cache's disk must not keep recalls from writing.
  UV_THREADPOOL_SIZE: '16',
  // mallopt(3): receive buffers go back to the system, and threads share heaps. 20 MiB less after long reads.
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
};
