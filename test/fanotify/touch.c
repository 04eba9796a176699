/*
 * Does one thing to a file and prints "RESULT ERRNO", so that a test can see which fanotify events it raises.
 *
 *   touch METHOD FILE [OFFSET [LENGTH [OTHER]]]
 *
 * OTHER is a second file (copies, clones, links) or a name to be made.
 * Content that was read follows as a third word: the number of bytes that are not zero.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *file, *other;
static off_t offset;
static size_t length;
static unsigned char *memory;
static long shown = -1;

static int is(const char *method, const char *name) { return strcmp(method, name) == 0; }

static int opened(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC, 0644);
  if (fd >= 0) return fd;
  printf("-1 %d\n", errno);
  exit(0);
}

static long count(const unsigned char *bytes, long size) {
  shown = 0;
  for (long i = 0; i < size; i++) shown += bytes[i] != 0;
  return size;
}

static long counted(long size) { return size < 0 ? size : count(memory, size); }

static long map(int protection, int flags, int open_flags, int advice) {
  int fd = opened(file, open_flags);
  unsigned char *at = mmap(NULL, length, protection, flags, fd, offset);
  if (at == MAP_FAILED) return -1;
  if (advice >= 0 && madvise(at, length, advice) < 0) return -1;
  return protection & PROT_READ ? count(at, (long)length) : (long)length;
}

static long grow_map(void) {
  int fd = opened(file, O_RDONLY);
  unsigned char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return -1;
  at = mremap(at, 4096, length, MREMAP_MAYMOVE);
  return at == MAP_FAILED ? -1 : count(at + 4096, (long)length - 4096);
}

static long uring(void) {
  struct io_uring_params p = {0};
  int fd = opened(file, O_RDONLY), ring = (int)syscall(SYS_io_uring_setup, 4, &p);
  if (ring < 0) return -1;
  unsigned char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                           IORING_OFF_SQ_RING);
  unsigned char *cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
                           PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
  struct io_uring_sqe *entry =
      mmap(NULL, p.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
  memset(entry, 0, sizeof *entry);
  entry->opcode = IORING_OP_READ;
  entry->fd = fd;
  entry->off = (uint64_t)offset;
  entry->addr = (uint64_t)(uintptr_t)memory;
  entry->len = (unsigned)length;
  *(unsigned *)(sq + p.sq_off.array) = 0;
  __atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
  int result = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;
  if (result < 0) errno = -result;
  return counted(result < 0 ? -1 : result);
}

static long by_handle(void) {
  char space[sizeof(struct file_handle) + 128];
  struct file_handle *handle = (struct file_handle *)space;
  int mount_id, root = opened(other, O_RDONLY);
  handle->handle_bytes = 128;
  if (name_to_handle_at(AT_FDCWD, file, handle, &mount_id, 0) < 0) return -1;
  int fd = open_by_handle_at(root, handle, O_RDONLY);
  return fd < 0 ? -1 : counted(pread(fd, memory, length, offset));
}

static long spliced(void) {
  int ends[2], fd = opened(file, O_RDONLY);
  loff_t at = offset;
  if (pipe(ends) < 0) return -1;
  long moved = splice(fd, &at, ends[1], NULL, length, 0);
  return moved < 0 ? -1 : counted(read(ends[0], memory, (size_t)moved));
}

static long dedupe(void) {
  int from = opened(file, O_RDONLY), to = opened(other, O_RDWR);
  struct file_dedupe_range *range = calloc(1, sizeof *range + sizeof(struct file_dedupe_range_info));
  range->src_offset = (uint64_t)offset;
  range->src_length = length;
  range->dest_count = 1;
  range->info[0].dest_fd = to;
  range->info[0].dest_offset = (uint64_t)offset;
  return ioctl(from, FIDEDUPERANGE, range);
}

static long run(const char *m) {
  struct iovec vector = {memory, length};
  struct stat status;
  loff_t at = offset;
  if (is(m, "open")) return opened(file, O_RDONLY), 0;
  if (is(m, "open-write")) return opened(file, O_RDWR), 0;
  if (is(m, "open-trunc")) return opened(file, O_WRONLY | O_TRUNC), 0;
  if (is(m, "stat")) return stat(file, &status);
  if (is(m, "access")) return access(file, R_OK);
  if (is(m, "fsync")) return fsync(opened(file, O_RDWR));
  if (is(m, "read")) return counted(read(opened(file, O_RDONLY), memory, length));
  if (is(m, "pread")) return counted(pread(opened(file, O_RDONLY), memory, length, offset));
  if (is(m, "readv")) return counted(preadv(opened(file, O_RDONLY), &vector, 1, offset));
  if (is(m, "nowait")) return counted(preadv2(opened(file, O_RDONLY), &vector, 1, offset, RWF_NOWAIT));
  if (is(m, "direct")) return counted(pread(opened(file, O_RDONLY | O_DIRECT), memory, length, offset));
  if (is(m, "direct-write")) return pwrite(opened(file, O_WRONLY | O_DIRECT), memory, length, offset);
  if (is(m, "uring")) return uring();
  if (is(m, "handle")) return by_handle();
  if (is(m, "map-private")) return map(PROT_READ, MAP_PRIVATE, O_RDONLY, -1);
  if (is(m, "map-shared")) return map(PROT_READ | PROT_WRITE, MAP_SHARED, O_RDWR, -1);
  if (is(m, "map-exec")) return map(PROT_READ | PROT_EXEC, MAP_PRIVATE, O_RDONLY, -1);
  if (is(m, "map-none")) return map(PROT_NONE, MAP_PRIVATE, O_RDONLY, -1);
  if (is(m, "map-willneed")) return map(PROT_READ, MAP_SHARED, O_RDONLY, MADV_WILLNEED);
  if (is(m, "map-grow")) return grow_map();
  if (is(m, "readahead")) return readahead(opened(file, O_RDONLY), offset, length);
  if (is(m, "fadvise")) return posix_fadvise(opened(file, O_RDONLY), offset, (off_t)length, POSIX_FADV_WILLNEED);
  if (is(m, "sendfile")) return sendfile(opened("/dev/null", O_WRONLY), opened(file, O_RDONLY), &at, length);
  if (is(m, "splice")) return spliced();
  if (is(m, "copy-from")) return copy_file_range(opened(file, O_RDONLY), &at, opened(other, O_WRONLY), NULL, length, 0);
  if (is(m, "copy-to")) return copy_file_range(opened(other, O_RDONLY), NULL, opened(file, O_WRONLY), &at, length, 0);
  if (is(m, "clone-from")) return ioctl(opened(other, O_WRONLY), FICLONE, opened(file, O_RDONLY));
  if (is(m, "clone-to")) return ioctl(opened(file, O_WRONLY), FICLONE, opened(other, O_RDONLY));
  if (is(m, "clone-range")) {
    struct file_clone_range range = {opened(file, O_RDONLY), (uint64_t)offset, length, (uint64_t)offset};
    return ioctl(opened(other, O_WRONLY), FICLONERANGE, &range);
  }
  if (is(m, "dedupe")) return dedupe();
  if (is(m, "seek-data")) return lseek(opened(file, O_RDONLY), offset, SEEK_DATA);
  if (is(m, "seek-hole")) return lseek(opened(file, O_RDONLY), offset, SEEK_HOLE);
  if (is(m, "fiemap")) {
    struct fiemap *extents = calloc(1, sizeof *extents + 8 * sizeof(struct fiemap_extent));
    extents->fm_length = ~0ULL;
    extents->fm_extent_count = 8;
    return ioctl(opened(file, O_RDONLY), FS_IOC_FIEMAP, extents) < 0 ? -1 : (long)extents->fm_mapped_extents;
  }
  if (is(m, "truncate")) return truncate(file, offset);
  if (is(m, "ftruncate")) return ftruncate(opened(file, O_WRONLY), offset);
  if (is(m, "fallocate")) return fallocate(opened(file, O_WRONLY), 0, offset, (off_t)length);
  if (is(m, "punch"))
    return fallocate(opened(file, O_WRONLY), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t)length);
  if (is(m, "zero")) return fallocate(opened(file, O_WRONLY), FALLOC_FL_ZERO_RANGE, offset, (off_t)length);
  if (is(m, "collapse")) return fallocate(opened(file, O_WRONLY), FALLOC_FL_COLLAPSE_RANGE, offset, (off_t)length);
  if (is(m, "insert")) return fallocate(opened(file, O_WRONLY), FALLOC_FL_INSERT_RANGE, offset, (off_t)length);
  if (is(m, "pwrite")) return pwrite(opened(file, O_WRONLY), memory, length, offset);
  if (is(m, "append")) return write(opened(file, O_WRONLY | O_APPEND), memory, length);
  if (is(m, "create")) return write(opened(other, O_WRONLY | O_CREAT | O_EXCL), memory, length);
  if (is(m, "tmpfile")) return write(opened(other, O_WRONLY | O_TMPFILE), memory, length);
  if (is(m, "rename")) return rename(file, other);
  if (is(m, "link")) return link(file, other);
  if (is(m, "unlink")) return unlink(file);
  if (is(m, "chmod")) return chmod(file, 0600);
  if (is(m, "utimens")) return utimes(file, NULL);
  if (is(m, "setxattr")) return setxattr(file, "user.test", "x", 1, 0);
  if (is(m, "exec")) return execl(file, file, (char *)NULL);
  if (is(m, "hold")) {
    /* Opens, says so, and does the read when a line comes. */
    char line[8];
    int fd = opened(file, O_RDONLY);
    puts("open"), fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return -1;
    return counted(pread(fd, memory, length, offset));
  }
  if (is(m, "open-many") || is(m, "make-many")) {
    /* FILE is a directory with files 0 .. OFFSET-1; how many could be opened. */
    long done = 0;
    if (chdir(file) < 0) return -1;
    for (off_t i = 0; i < offset; i++) {
      char name[32];
      snprintf(name, sizeof name, "%lld", (long long)i);
      int fd = open(name, is(m, "open-many") ? O_RDONLY : O_RDONLY | O_CREAT, 0644);
      if (fd >= 0) done++, close(fd);
    }
    return done;
  }
  if (is(m, "pread-many")) {
    /* OFFSET times a byte. */
    int fd = opened(file, O_RDONLY);
    for (off_t i = 0; i < offset; i++)
      if (pread(fd, memory, 1, 0) < 0) return -1;
    return (long)offset;
  }
  if (is(m, "trunc-read")) {
    /* OFFSET times: cut to nothing by opening, then ask for a byte. */
    for (off_t i = 0; i < offset; i++) {
      int fd = opened(file, O_RDWR | O_TRUNC);
      if (pread(fd, memory, 1, 0) < 0) return -1;
      close(fd);
    }
    return (long)offset;
  }
  fprintf(stderr, "unknown method %s\n", m);
  exit(2);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  file = argv[2];
  offset = argc > 3 ? atoll(argv[3]) : 0;
  length = argc > 4 ? (size_t)atoll(argv[4]) : 0;
  other = argc > 5 ? argv[5] : "";
  /* Touched, so that O_DIRECT and the event have real pages; at most what is read into it. */
  memory = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  errno = 0;
  long result = run(argv[1]);
  int number = result < 0 ? errno : 0;
  printf("%ld %d", result, number);
  if (shown >= 0) printf(" %ld", shown);
  puts("");
  return 0;
}
