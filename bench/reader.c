/*
 * The timed part of the benchmarks, in C so that the reader costs little and every file system the same.
 *
 *   reader sequential FILE        read(2) of 1 MiB to the end         {"seconds":..,"bytes":..}
 *   reader mmap FILE              touches and sums every page forwards
 *   reader random FILE N          N reads of 4 KiB at random places (repeatable)
 *   reader first FILE [OFFSET]    open and read of 4 KiB, the first ones or those at OFFSET
 *   reader same FILE N            N reads of the first 4 KiB; median in seconds
 *   reader stat PATH              one stat(2)
 *   reader lookups DIR N          statx(AT_STATX_FORCE_SYNC) of DIR/f0 .. f(N-1), names not in the kernel's caches: one
 *                                 LOOKUP and one GETATTR each on FUSE; median in seconds
 *   reader handles DIR N          open_by_handle_at(O_PATH) of the same, inodes not in the kernel's caches: one LOOKUP of
 *                                 "." each; median in seconds
 *   reader getattr PATH N         N statx(AT_STATX_FORCE_SYNC): one GETATTR each on FUSE; median in seconds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_file(const char *path, off_t *size) {
  struct stat facts;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &facts) != 0) fail(path);
  *size = facts.st_size;
  return fd;
}

static size_t sequential(const char *path) {
  static char buffer[1 << 20];
  off_t size;
  size_t total = 0;
  int fd = open_file(path, &size);
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0) fail("read");
    if (got == 0) break;
    total += (size_t)got;
  }
  if ((off_t)total != size) { errno = EIO; fail("short file"); }
  return total;
}

static volatile uint64_t sink;

static size_t mapped(const char *path) {
  off_t size;
  int fd = open_file(path, &size);
  const uint64_t *words = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
  if (words == MAP_FAILED) fail("mmap");
  uint64_t sum = 0;
  for (off_t i = 0; i < size / 8; i++) sum += words[i];
  sink = sum;
  return (size_t)size;
}

static size_t at_random(const char *path, long count) {
  static char buffer[4096];
  off_t size;
  uint64_t state = 88172645463325252ULL;
  int fd = open_file(path, &size);
  for (long i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    off_t block = (off_t)(state % (uint64_t)(size / 4096));
    if (pread(fd, buffer, sizeof buffer, block * 4096) != sizeof buffer) fail("pread");
  }
  return (size_t)count * 4096;
}

static size_t first(const char *path, off_t at) {
  static char buffer[4096];
  int fd = open(path, O_RDONLY);
  if (fd < 0) fail(path);
  ssize_t got = pread(fd, buffer, sizeof buffer, at);
  if (got <= 0) fail("read");
  return (size_t)got;
}

static int ascending(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

static double getattr_median(const char *path, long count) {
  struct statx facts;
  double *each = calloc((size_t)count, sizeof *each);
  for (long i = 0; i < count; i++) {
    double start = now();
    if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &facts) != 0) fail(path);
    each[i] = now() - start;
  }
  qsort(each, (size_t)count, sizeof *each, ascending);
  return each[count / 2];
}

/* Names and inodes that nobody uses; proc_sys_vm(5). */
static void forget_names(void) {
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (fd < 0 || write(fd, "2", 1) != 1) fail("drop_caches");
  close(fd);
}

static double lookups_median(const char *directory, long count) {
  struct statx facts;
  double *each = calloc((size_t)count, sizeof *each);
  char path[4096];
  forget_names();
  for (long i = 0; i < count; i++) {
    snprintf(path, sizeof path, "%s/f%ld", directory, i);
    double start = now();
    if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &facts) != 0) fail(path);
    each[i] = now() - start;
  }
  qsort(each, (size_t)count, sizeof *each, ascending);
  return each[count / 2];
}

struct any_handle {
  struct file_handle head;
  unsigned char bytes[MAX_HANDLE_SZ];
};

static double handles_median(const char *directory, long count) {
  struct any_handle *handles = calloc((size_t)count, sizeof *handles);
  double *each = calloc((size_t)count, sizeof *each);
  char path[4096];
  int mount_id;
  for (long i = 0; i < count; i++) {
    snprintf(path, sizeof path, "%s/f%ld", directory, i);
    handles[i].head.handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(AT_FDCWD, path, &handles[i].head, &mount_id, 0) != 0) fail(path);
  }
  int mount = open(directory, O_RDONLY | O_DIRECTORY);
  if (mount < 0) fail(directory);
  forget_names();
  for (long i = 0; i < count; i++) {
    double start = now();
    int fd = open_by_handle_at(mount, &handles[i].head, O_PATH);
    each[i] = now() - start;
    if (fd < 0) fail("open_by_handle_at");
    close(fd);
  }
  qsort(each, (size_t)count, sizeof *each, ascending);
  return each[count / 2];
}

static double same_median(const char *path, long count) {
  static char buffer[4096];
  off_t size;
  int fd = open_file(path, &size);
  double *each = calloc((size_t)count, sizeof *each);
  for (long i = 0; i < count; i++) {
    double start = now();
    if (pread(fd, buffer, sizeof buffer, 0) <= 0) fail("pread");
    each[i] = now() - start;
  }
  qsort(each, (size_t)count, sizeof *each, ascending);
  return each[count / 2];
}

int main(int count, char **arguments) {
  const char *mode = count > 2 ? arguments[1] : "";
  long repeat = count > 3 ? strtol(arguments[3], NULL, 10) : 1;
  double start = now();
  size_t bytes = 0;
  if (strcmp(mode, "sequential") == 0) bytes = sequential(arguments[2]);
  else if (strcmp(mode, "mmap") == 0) bytes = mapped(arguments[2]);
  else if (strcmp(mode, "random") == 0) bytes = at_random(arguments[2], repeat);
  else if (strcmp(mode, "first") == 0) bytes = first(arguments[2], count > 3 ? atoll(arguments[3]) : 0);
  else if (strcmp(mode, "stat") == 0) {
    struct stat facts;
    if (stat(arguments[2], &facts) != 0) fail(arguments[2]);
  } else if (strcmp(mode, "getattr") == 0) {
    printf("{\"seconds\":%.9f,\"bytes\":0}\n", getattr_median(arguments[2], repeat));
    return 0;
  } else if (strcmp(mode, "lookups") == 0) {
    printf("{\"seconds\":%.9f,\"bytes\":0}\n", lookups_median(arguments[2], repeat));
    return 0;
  } else if (strcmp(mode, "handles") == 0) {
    printf("{\"seconds\":%.9f,\"bytes\":0}\n", handles_median(arguments[2], repeat));
    return 0;
  } else if (strcmp(mode, "same") == 0) {
    printf("{\"seconds\":%.9f,\"bytes\":0}\n", same_median(arguments[2], repeat));
    return 0;
  } else {
    fprintf(stderr, "usage: reader sequential|mmap|random|first|same|stat|getattr|lookups|handles FILE [N]\n");
    return 2;
  }
  printf("{\"seconds\":%.9f,\"bytes\":%zu}\n", now() - start, bytes);
  return 0;
}
