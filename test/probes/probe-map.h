/* Reading through mappings: every order, protection and moment of population. */

static unsigned char *map(struct file *file, size_t length, int protection, int flags) {
  unsigned char *at = mmap(NULL, length, protection, flags, file->fd, 0);
  if (at == MAP_FAILED) fail("mmap");
  return at;
}

static void copy_pages(struct file *file, const unsigned char *from, int backwards) {
  size_t count = ROUND_UP(file->size, PAGE) / PAGE;
  for (size_t i = 0; i < count; i++) {
    size_t offset = (backwards ? count - 1 - i : i) * PAGE;
    size_t length = file->size - offset < PAGE ? file->size - offset : PAGE;
    memcpy(file->buffer + offset, from + offset, length);
  }
  for (size_t i = file->size; i % PAGE != 0; i++)
    if (from[i] != 0) contradiction("bytes after the end in the last mapped page");
}

static void map_with(struct file *file, int protection, int flags, int backwards, int close_first) {
  if (file->size == 0) return;
  unsigned char *at = map(file, file->size, protection, flags);
  if (close_first) close(file->fd);
  copy_pages(file, at, backwards);
  munmap(at, file->size);
}

static void by_mmap(struct file *file) { map_with(file, PROT_READ, MAP_SHARED, 0, 0); }
static void by_mmap_backwards(struct file *file) { map_with(file, PROT_READ, MAP_SHARED, 1, 0); }
static void by_mmap_private(struct file *file) { map_with(file, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, 0); }
static void by_mmap_exec(struct file *file) { map_with(file, PROT_READ | PROT_EXEC, MAP_PRIVATE, 1, 0); }
static void by_mmap_closed(struct file *file) { map_with(file, PROT_READ, MAP_PRIVATE, 0, 1); }
static void by_mmap_populate(struct file *file) {
  map_with(file, PROT_READ, MAP_SHARED | MAP_POPULATE, 0, 0);
}

static void by_mmap_willneed(struct file *file) {
  if (file->size == 0) return;
  unsigned char *at = map(file, file->size, PROT_READ, MAP_SHARED);
  if (madvise(at, file->size, MADV_WILLNEED) != 0) fail("madvise");
  copy_pages(file, at, 0);
}

static void by_mremap(struct file *file) {
  if (file->size == 0) return;
  unsigned char *at = map(file, PAGE, PROT_READ, MAP_SHARED);
  volatile unsigned char first = at[0];
  (void)first;
  at = mremap(at, PAGE, ROUND_UP(file->size, PAGE), MREMAP_MAYMOVE);
  if (at == MAP_FAILED) fail("mremap");
  copy_pages(file, at, 1);
}
