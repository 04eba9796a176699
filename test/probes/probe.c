/*
 * Reads a file through one particular kernel interface and prints a digest of what came out, so that every way
 * of reading can be compared with read(2) of the source. No library besides libc: io_uring and libaio are used
 * through raw system calls.
 *
 *   probe METHOD FILE        prints "<size> <digest>"; exit 77: the interface is not offered for this file
 *
 * Every method fills one buffer of the file's size, whatever its order, so all digests are comparable.
 * Exit 2: usage. Exit 3: a system call failed (name and errno on standard error). Exit 9: the interface
 * contradicted itself (for example, data after the end of the file).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
#define ROUND_UP(n, to) (((n) + (to)-1) / (to) * (to))

struct file {
  const char *path;
  int fd;
  size_t size;
  unsigned char *buffer;
};

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s (errno %d)\n", what, strerror(errno), errno);
  exit(3);
}

static _Noreturn void contradiction(const char *what) {
  fprintf(stderr, "contradiction: %s\n", what);
  exit(9);
}

static _Noreturn void unsupported(const char *what) {
  fprintf(stderr, "not offered: %s: %s\n", what, strerror(errno));
  exit(77);
}

/* xorshift64*: small, deterministic shuffles. */
static uint64_t random_state = 0x9e3779b97f4a7c15ULL;
static uint64_t next_random(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 0x2545f4914f6cdd1dULL;
}

/* FNV-1a, 64 bits: detects any single changed byte, which is all that is asked of it. */
static uint64_t digest(const unsigned char *bytes, size_t count) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
  return hash;
}

/* Reads all of [offset, offset + count) or as much as there is before the end. */
static size_t pread_all(int fd, unsigned char *into, size_t count, off_t offset) {
  size_t done = 0;
  while (done < count) {
    ssize_t got = pread(fd, into + done, count - done, offset + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("pread");
    if (got == 0) break;
    done += (size_t)got;
  }
  return done;
}

static void must_pread(struct file *file, size_t offset, size_t count) {
  if (offset + count > file->size) count = file->size - offset;
  if (pread_all(file->fd, file->buffer + offset, count, (off_t)offset) != count) contradiction("short pread");
}

static void by_read(struct file *file) {
  size_t done = 0;
  unsigned char extra;
  while (done < file->size) {
    ssize_t got = read(file->fd, file->buffer + done, file->size - done < 65536 ? file->size - done : 65536);
    if (got < 0) fail("read");
    if (got == 0) contradiction("read ended before the size");
    done += (size_t)got;
  }
  if (read(file->fd, &extra, 1) != 0) contradiction("data after the end");
  if (pread(file->fd, &extra, 1, (off_t)file->size + 12345) != 0) contradiction("data beyond the end");
  if (pread(file->fd, &extra, 0, 0) != 0) contradiction("a read of nothing");
}

static void by_readv_odd(struct file *file) {
  static const size_t sizes[] = {1, 7, 4095, 13, 8191, 3, 65537, 511};
  size_t done = 0, which = 0;
  while (done < file->size) {
    struct iovec vectors[5];
    int used = 0;
    size_t asked = 0;
    while (used < 5 && done + asked < file->size) {
      size_t length = sizes[which++ % 8];
      if (done + asked + length > file->size) length = file->size - done - asked;
      vectors[used].iov_base = file->buffer + done + asked;
      vectors[used++].iov_len = length;
      asked += length;
    }
    ssize_t got = readv(file->fd, vectors, used);
    if (got < 0) fail("readv");
    if (got == 0) contradiction("readv ended before the size");
    done += (size_t)got;
  }
  if (lseek(file->fd, 0, SEEK_CUR) != (off_t)file->size) contradiction("file position");
}

static void in_blocks(struct file *file, size_t block, int order) {
  size_t count = ROUND_UP(file->size, block) / block;
  size_t *indices = calloc(count + 1, sizeof *indices);
  for (size_t i = 0; i < count; i++) indices[i] = order < 0 ? count - 1 - i : i;
  if (order == 0)
    for (size_t i = count; i > 1; i--) {
      size_t other = next_random() % i, kept = indices[i - 1];
      indices[i - 1] = indices[other];
      indices[other] = kept;
    }
  for (size_t i = 0; i < count; i++) must_pread(file, indices[i] * block, block);
  free(indices);
}

static void by_shuffled(struct file *file) { in_blocks(file, 4096, 0); }
static void by_shuffled_odd(struct file *file) { in_blocks(file, 3001, 0); }
static void by_backwards(struct file *file) { in_blocks(file, 4096, -1); }
static void by_backwards_large(struct file *file) { in_blocks(file, 300000, -1); }

static int memory_file(void) {
  int fd = memfd_create("probe", 0);
  if (fd < 0) fail("memfd_create");
  return fd;
}

static void take_back(struct file *file, int fd) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) fail("fstat");
  if ((size_t)facts.st_size != file->size) contradiction("copied size");
  if (pread_all(fd, file->buffer, file->size, 0) != file->size) contradiction("short copy");
}

static void by_sendfile(struct file *file) {
  int out = memory_file();
  for (;;) {
    ssize_t got = sendfile(out, file->fd, NULL, 1 << 30);
    if (got < 0) fail("sendfile");
    if (got == 0) break;
  }
  take_back(file, out);
}

static void by_splice(struct file *file) {
  int out = memory_file(), ends[2];
  if (pipe(ends) != 0) fail("pipe");
  for (;;) {
    ssize_t got = splice(file->fd, NULL, ends[1], NULL, 65536, SPLICE_F_MOVE);
    if (got < 0) fail("splice in");
    if (got == 0) break;
    for (ssize_t left = got; left > 0;) {
      ssize_t put = splice(ends[0], NULL, out, NULL, (size_t)left, 0);
      if (put <= 0) fail("splice out");
      left -= put;
    }
  }
  take_back(file, out);
}

static void by_copy_file_range(struct file *file) {
  int out = memory_file();
  const char *directory = getenv("PROBE_SCRATCH");
  if (directory != NULL && (out = open(directory, O_TMPFILE | O_RDWR, 0600)) < 0) fail("O_TMPFILE");
  for (;;) {
    ssize_t got = copy_file_range(file->fd, NULL, out, NULL, 1 << 30, 0);
    if (got < 0 && (errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL))
      unsupported("copy_file_range");
    if (got < 0) fail("copy_file_range");
    if (got == 0) break;
  }
  take_back(file, out);
}

static void by_direct(struct file *file) {
  int fd = open(file->path, O_RDONLY | O_DIRECT);
  if (fd < 0) fail("open O_DIRECT");
  size_t block = 65536, offset = 0;
  unsigned char *aligned = aligned_alloc(PAGE, block);
  while (offset < file->size) {
    ssize_t got = pread(fd, aligned, block, (off_t)offset);
    if (got < 0) fail("pread O_DIRECT");
    if (got == 0) contradiction("O_DIRECT ended before the size");
    size_t keep = (size_t)got > file->size - offset ? file->size - offset : (size_t)got;
    memcpy(file->buffer + offset, aligned, keep);
    offset += keep;
    if (offset < file->size && offset % 512 != 0) contradiction("unaligned short O_DIRECT read");
  }
}

/* EAGAIN is an honest answer; wrong bytes are not. Asks again after a blocking read. */
static void by_nowait(struct file *file) {
  unsigned char block[8192];
  for (int pass = 0; pass < 2; pass++)
    for (size_t offset = 0; offset < file->size; offset += sizeof block) {
      struct iovec vector = {block, sizeof block};
      ssize_t got = preadv2(file->fd, &vector, 1, (off_t)offset, RWF_NOWAIT);
      if (got < 0 && errno != EAGAIN && errno != EOPNOTSUPP) fail("preadv2 RWF_NOWAIT");
      must_pread(file, offset, sizeof block);
      if (got == 0) contradiction("RWF_NOWAIT said end of file");
      if (got > 0 && memcmp(block, file->buffer + offset, (size_t)got) != 0)
        contradiction("RWF_NOWAIT gave other bytes than pread");
    }
}

#include "probe-map.h"

/* What cp and tar -S do: copies only what SEEK_DATA shows, and takes the rest for zeros. */
static void by_seek(struct file *file) {
  off_t offset = 0, size = (off_t)file->size;
  while (offset < size) {
    off_t data = lseek(file->fd, offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) fail("SEEK_DATA");
    if (data < offset || data >= size) contradiction("SEEK_DATA out of order");
    off_t hole = lseek(file->fd, data, SEEK_HOLE);
    if (hole < 0) fail("SEEK_HOLE");
    if (hole <= data || hole > size) contradiction("SEEK_HOLE out of order");
    must_pread(file, (size_t)data, (size_t)(hole - data));
    offset = hole;
  }
  if (lseek(file->fd, size, SEEK_DATA) != -1 || errno != ENXIO) contradiction("SEEK_DATA at the end");
  if (lseek(file->fd, 0, SEEK_END) != size) contradiction("SEEK_END");
}

static void by_fiemap(struct file *file) {
  enum { extents = 512 };
  struct fiemap *request = calloc(1, sizeof *request + extents * sizeof(struct fiemap_extent));
  request->fm_length = FIEMAP_MAX_OFFSET;
  request->fm_flags = FIEMAP_FLAG_SYNC;
  request->fm_extent_count = extents;
  if (ioctl(file->fd, FS_IOC_FIEMAP, request) != 0) unsupported("FIEMAP");
  for (unsigned i = 0; i < request->fm_mapped_extents; i++) {
    struct fiemap_extent *extent = &request->fm_extents[i];
    if (extent->fe_logical < file->size) must_pread(file, extent->fe_logical, extent->fe_length);
  }
}

static void by_readahead(struct file *file) {
  (void)readahead(file->fd, 0, file->size);
  (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_WILLNEED);
  by_read(file);
}

static void by_handle(struct file *file) {
  struct file_handle *handle = malloc(sizeof *handle + MAX_HANDLE_SZ);
  int mount_id;
  handle->handle_bytes = MAX_HANDLE_SZ;
  if (name_to_handle_at(AT_FDCWD, file->path, handle, &mount_id, 0) != 0) unsupported("name_to_handle_at");
  int fd = open_by_handle_at(file->fd, handle, O_RDONLY);
  if (fd < 0) unsupported("open_by_handle_at");
  file->fd = fd;
  by_read(file);
}

static void by_reopen(struct file *file) {
  char link[64];
  int path_only = open(file->path, O_PATH);
  snprintf(link, sizeof link, "/proc/self/fd/%d", path_only);
  file->fd = open(link, O_RDONLY);
  if (file->fd < 0) fail("open through /proc");
  by_read(file);
}

#include "probe-async.h"

static const struct {
  const char *name;
  void (*run)(struct file *);
} methods[] = {
    {"read", by_read},
    {"readv", by_readv_odd},
    {"shuffled", by_shuffled},
    {"shuffled-odd", by_shuffled_odd},
    {"backwards", by_backwards},
    {"backwards-large", by_backwards_large},
    {"sendfile", by_sendfile},
    {"splice", by_splice},
    {"copy-file-range", by_copy_file_range},
    {"direct", by_direct},
    {"nowait", by_nowait},
    {"mmap", by_mmap},
    {"mmap-backwards", by_mmap_backwards},
    {"mmap-private", by_mmap_private},
    {"mmap-exec", by_mmap_exec},
    {"mmap-closed", by_mmap_closed},
    {"mmap-populate", by_mmap_populate},
    {"mmap-willneed", by_mmap_willneed},
    {"mremap", by_mremap},
    {"seek", by_seek},
    {"fiemap", by_fiemap},
    {"readahead", by_readahead},
    {"handle", by_handle},
    {"reopen", by_reopen},
    {"aio", by_aio},
    {"uring", by_uring},
    {"uring-async", by_uring_async},
    {"uring-fixed", by_uring_fixed},
    {"uring-polled", by_uring_polled},
    {"threads", by_threads},
};

/* Lists a directory with a buffer for few entries, twice; prints how many names. No name may come twice. */
static int count_names(const char *path) {
  char buffer[2048];
  long names = 0;
  uint64_t sums[2] = {0, 0};
  int fd = open(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) fail("open directory");
  for (int pass = 0; pass < 2; pass++) {
    names = 0;
    if (lseek(fd, 0, SEEK_SET) != 0) fail("rewind");
    for (;;) {
      long got = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
      if (got < 0) fail("getdents64");
      if (got == 0) break;
      for (long at = 0; at < got; names++) {
        struct dirent64 *entry = (struct dirent64 *)(buffer + at);
        sums[pass] += digest((unsigned char *)entry->d_name, strlen(entry->d_name));
        at += entry->d_reclen;
      }
    }
  }
  if (sums[0] != sums[1]) contradiction("two listings differ");
  printf("%ld\n", names);
  return 0;
}

int main(int count, char **arguments) {
  size_t total = sizeof methods / sizeof *methods;
  if (count == 2 && strcmp(arguments[1], "methods") == 0) {
    for (size_t i = 0; i < total; i++) puts(methods[i].name);
    return 0;
  }
  if (count == 3 && strcmp(arguments[1], "names") == 0) return count_names(arguments[2]);
  if (count != 3) {
    fprintf(stderr, "usage: probe METHOD FILE | probe names DIRECTORY | probe methods\n");
    return 2;
  }
  struct file file = {.path = arguments[2], .fd = open(arguments[2], O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail("open");
  struct stat facts;
  if (fstat(file.fd, &facts) != 0) fail("fstat");
  file.size = (size_t)facts.st_size;
  file.buffer = calloc(1, ROUND_UP(file.size + 1, PAGE));
  if (file.buffer == NULL) fail("calloc");
  for (size_t i = 0; i < total; i++) {
    if (strcmp(arguments[1], methods[i].name) != 0) continue;
    methods[i].run(&file);
    printf("%zu %016llx\n", file.size, (unsigned long long)digest(file.buffer, file.size));
    return 0;
  }
  fprintf(stderr, "unknown method %s\n", arguments[1]);
  return 2;
}
