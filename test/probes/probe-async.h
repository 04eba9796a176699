/*
 * Reading with many requests at once: io_uring (inline or forced to a kernel worker) and libaio through raw system
 * calls, and plain threads.
 */

struct uring {
  int fd;
  struct io_uring_params parameters;
  unsigned char *submission, *completion;
  struct io_uring_sqe *entries;
};

/* How requests are made: by the caller, by a worker, into registered memory from a registered file, by the kernel's
 * own thread. */
enum uring_mode { uring_inline, uring_async, uring_fixed, uring_polled };

static void uring_open(struct uring *ring, unsigned depth, enum uring_mode mode) {
  memset(ring, 0, sizeof *ring);
  if (mode == uring_polled) ring->parameters.flags = IORING_SETUP_SQPOLL;
  ring->fd = (int)syscall(SYS_io_uring_setup, depth, &ring->parameters);
  if (ring->fd < 0) unsupported("io_uring_setup");
  struct io_uring_params *p = &ring->parameters;
  int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
  size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
  size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
  ring->submission = mmap(NULL, sq, protection, flags, ring->fd, IORING_OFF_SQ_RING);
  ring->completion = mmap(NULL, cq, protection, flags, ring->fd, IORING_OFF_CQ_RING);
  ring->entries = mmap(NULL, p->sq_entries * sizeof(struct io_uring_sqe), protection, flags, ring->fd,
                       IORING_OFF_SQES);
  if (ring->submission == MAP_FAILED || ring->completion == MAP_FAILED || ring->entries == MAP_FAILED)
    fail("mmap of the ring");
}

/* Submits one batch of reads of `block` bytes from *offset on and waits for all of it. */
static void uring_batch(struct uring *ring, struct file *file, size_t *offset, size_t block,
                        enum uring_mode mode) {
  struct io_uring_params *p = &ring->parameters;
  unsigned *tail = (unsigned *)(ring->submission + p->sq_off.tail);
  unsigned mask = *(unsigned *)(ring->submission + p->sq_off.ring_mask);
  unsigned *array = (unsigned *)(ring->submission + p->sq_off.array);
  unsigned count = 0;
  for (; count < p->sq_entries && *offset < file->size; count++) {
    unsigned slot = (*tail + count) & mask;
    struct io_uring_sqe *entry = &ring->entries[slot];
    memset(entry, 0, sizeof *entry);
    entry->opcode = mode == uring_fixed ? IORING_OP_READ_FIXED : IORING_OP_READ;
    entry->flags = mode == uring_async ? IOSQE_ASYNC : mode == uring_fixed ? IOSQE_FIXED_FILE : 0;
    entry->fd = mode == uring_fixed ? 0 : file->fd;
    entry->off = *offset;
    entry->addr = (uint64_t)(uintptr_t)(file->buffer + *offset);
    entry->len = (unsigned)(file->size - *offset < block ? file->size - *offset : block);
    entry->user_data = *offset;
    array[slot] = slot;
    *offset += entry->len;
  }
  __atomic_store_n(tail, *tail + count, __ATOMIC_RELEASE);
  long got = syscall(SYS_io_uring_enter, ring->fd, count, count,
                     IORING_ENTER_GETEVENTS | (mode == uring_polled ? IORING_ENTER_SQ_WAKEUP : 0), NULL, 0);
  if (got != (long)count) fail("io_uring_enter");
  unsigned *head = (unsigned *)(ring->completion + p->cq_off.head);
  unsigned *end = (unsigned *)(ring->completion + p->cq_off.tail);
  unsigned cq_mask = *(unsigned *)(ring->completion + p->cq_off.ring_mask);
  struct io_uring_cqe *completions = (struct io_uring_cqe *)(ring->completion + p->cq_off.cqes);
  for (unsigned left = count; left > 0; left--) {
    if (*head == __atomic_load_n(end, __ATOMIC_ACQUIRE)) contradiction("completion missing");
    struct io_uring_cqe *completion = &completions[*head & cq_mask];
    size_t at = completion->user_data, want = file->size - at < block ? file->size - at : block;
    if (completion->res < 0) { errno = -completion->res; fail("io_uring read"); }
    /* A short read is allowed; the rest is fetched, and must be there. */
    if ((size_t)completion->res < want)
      must_pread(file, at + (size_t)completion->res, want - (size_t)completion->res);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
  }
}

static void with_uring(struct file *file, enum uring_mode mode) {
  struct uring ring;
  uring_open(&ring, 8, mode);
  if (mode == uring_fixed && file->size > 0) {
    struct iovec memory = {file->buffer, file->size};
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &memory, 1) != 0 ||
        syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &file->fd, 1) != 0)
      unsupported("io_uring_register");
  }
  for (size_t offset = 0; offset < file->size;) uring_batch(&ring, file, &offset, 50000, mode);
  close(ring.fd);
}

static void by_uring(struct file *file) { with_uring(file, uring_inline); }
static void by_uring_async(struct file *file) { with_uring(file, uring_async); }
static void by_uring_fixed(struct file *file) { with_uring(file, uring_fixed); }
static void by_uring_polled(struct file *file) { with_uring(file, uring_polled); }

static void by_aio(struct file *file) {
  aio_context_t context = 0;
  size_t block = 32768;
  if (syscall(SYS_io_setup, 8, &context) != 0) unsupported("io_setup");
  for (size_t offset = 0; offset < file->size;) {
    struct iocb requests[8], *pointers[8];
    struct io_event events[8];
    int count = 0;
    memset(requests, 0, sizeof requests);
    for (; count < 8 && offset < file->size; count++, offset += block) {
      requests[count].aio_lio_opcode = IOCB_CMD_PREAD;
      requests[count].aio_fildes = (unsigned)file->fd;
      requests[count].aio_buf = (uint64_t)(uintptr_t)(file->buffer + offset);
      requests[count].aio_nbytes = file->size - offset < block ? file->size - offset : block;
      requests[count].aio_offset = (int64_t)offset;
      pointers[count] = &requests[count];
    }
    if (syscall(SYS_io_submit, context, (long)count, pointers) != count) fail("io_submit");
    if (syscall(SYS_io_getevents, context, (long)count, (long)count, events, NULL) != count)
      fail("io_getevents");
    for (int i = 0; i < count; i++) {
      struct iocb *request = (struct iocb *)(uintptr_t)events[i].obj;
      if (events[i].res < 0) { errno = (int)-events[i].res; fail("aio read"); }
      if ((uint64_t)events[i].res != request->aio_nbytes) contradiction("short aio read");
    }
  }
}

/* Sixteen readers of one cold range at the same moment: all must see the same. */
enum { readers = 16 };
static pthread_barrier_t start_line;

static void *read_whole(void *argument) {
  struct file *file = argument;
  unsigned char *own = malloc(file->size + 1);
  int fd = open(file->path, O_RDONLY);
  if (fd < 0) fail("open");
  pthread_barrier_wait(&start_line);
  if (pread_all(fd, own, file->size, 0) != file->size) contradiction("short read of a thread");
  close(fd);
  return own;
}

static void by_threads(struct file *file) {
  pthread_t threads[readers];
  pthread_barrier_init(&start_line, NULL, readers);
  for (int i = 0; i < readers; i++)
    if (pthread_create(&threads[i], NULL, read_whole, file) != 0) fail("pthread_create");
  for (int i = 0; i < readers; i++) {
    void *own;
    pthread_join(threads[i], &own);
    if (i == 0) memcpy(file->buffer, own, file->size);
    else if (memcmp(file->buffer, own, file->size) != 0) contradiction("two threads read different bytes");
    free(own);
  }
}
