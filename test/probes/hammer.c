/*
 * Reads files through a mount and compares every byte with an equal file on a native filesystem. In a process of
 * its own, in C: fast enough for hundreds of thousands of reads, and a stuck mount does not stop the test.
 *
 *   hammer stress SEED SECONDS MOUNT SOURCE   names of files, relative to both, one a line on standard input
 *       Random reads until the time is over or SIGTERM. Prints JSON: {"reads":..,"bytes":..,"errors":{"5":2}}.
 *   hammer serve                              one command a line, one answer a line:
 *       open HANDLE MOUNTFILE MODELFILE | pread HANDLE OFFSET LENGTH | mmap HANDLE OFFSET LENGTH |
 *       seek HANDLE | close HANDLE | stat MOUNTFILE MODELFILE | list MOUNTDIR MODELDIR
 *       Answers: "ok N", "errno N" (the mount refused), "wrong ..." (the mount lied).
 *
 * Exit 9: a wrong byte; the last line of standard output says where. An errno or SIGBUS is never a wrong byte.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { read_max = 4 << 20, handles_max = 64, files_max = 4096 };

struct pair {
  int mount, model;
};

static volatile sig_atomic_t stopping;
static sigjmp_buf bus_error;
static volatile sig_atomic_t in_mapping;
static unsigned char *one, *other;
static uint64_t random_state;

static void on_stop(int signal) { (void)signal; stopping = 1; }
static void on_bus(int signal) {
  (void)signal;
  if (in_mapping) siglongjmp(bus_error, 1);
  _exit(8);
}

static uint64_t next_random(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * 0x2545f4914f6cdd1dULL;
}

/* Outcome of one comparison: bytes compared >= 0, or -errno, or WRONG with `wrong_at` set. */
enum { WRONG = -100000 };
static off_t wrong_at;
static ssize_t wrong_got, wrong_want;

static ssize_t first_difference(const unsigned char *got, const unsigned char *want, size_t count) {
  if (memcmp(got, want, count) == 0) return -1;
  size_t at = 0;
  while (got[at] == want[at]) at++;
  return (ssize_t)at;
}

static ssize_t full_pread(int fd, unsigned char *into, size_t length, off_t offset) {
  size_t done = 0;
  while (done < length) {
    ssize_t got = pread(fd, into + done, length - done, offset + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

static ssize_t compare_pread(struct pair *pair, off_t offset, size_t length) {
  if (length > read_max) length = read_max;
  ssize_t got = full_pread(pair->mount, one, length, offset);
  if (got < 0) return got;
  ssize_t want = full_pread(pair->model, other, length, offset);
  if (want < 0) { fprintf(stderr, "the model cannot be read: %zd\n", want); exit(3); }
  ssize_t shorter = got < want ? got : want;
  ssize_t at = first_difference(one, other, (size_t)shorter);
  if (at < 0 && got == want) return got;
  wrong_at = offset + (at < 0 ? shorter : at);
  wrong_got = at < 0 ? got : one[at];
  wrong_want = at < 0 ? want : other[at];
  return WRONG;
}

static ssize_t compare_mapping(struct pair *pair, off_t offset, size_t length) {
  struct stat facts;
  if (fstat(pair->model, &facts) != 0) return -errno;
  if (length > read_max) length = read_max;
  offset &= ~4095LL;
  if (offset >= facts.st_size) return 0;
  if ((off_t)length > facts.st_size - offset) length = (size_t)(facts.st_size - offset);
  if (length == 0) return 0;
  unsigned char *at = mmap(NULL, length, PROT_READ, next_random() & 1 ? MAP_SHARED : MAP_PRIVATE,
                           pair->mount, offset);
  if (at == MAP_FAILED) return -errno;
  in_mapping = 1;
  if (sigsetjmp(bus_error, 1) != 0) {
    in_mapping = 0;
    munmap(at, length);
    return -EIO;
  }
  memcpy(one, at, length);
  in_mapping = 0;
  munmap(at, length);
  ssize_t want = full_pread(pair->model, other, length, offset);
  if (want != (ssize_t)length) { fprintf(stderr, "the model cannot be read: %zd\n", want); exit(3); }
  ssize_t different = first_difference(one, other, length);
  if (different < 0) return want;
  wrong_at = offset + different;
  wrong_got = one[different];
  wrong_want = other[different];
  return WRONG;
}

/* Nothing may be hidden in what SEEK_DATA calls a hole. */
static ssize_t compare_holes(struct pair *pair) {
  struct stat facts;
  if (fstat(pair->model, &facts) != 0) return -errno;
  off_t offset = 0;
  while (offset < facts.st_size) {
    off_t data = lseek(pair->mount, offset, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return -errno;
    off_t hole_end = data < 0 ? facts.st_size : data;
    for (off_t at = offset; at < hole_end; at += read_max) {
      size_t length = hole_end - at < read_max ? (size_t)(hole_end - at) : read_max;
      ssize_t want = full_pread(pair->model, other, length, at);
      for (ssize_t i = 0; i < want; i++)
        if (other[i] != 0) { wrong_at = at + i; wrong_got = 0; wrong_want = other[i]; return WRONG; }
    }
    if (data < 0) break;
    offset = lseek(pair->mount, data, SEEK_HOLE);
    if (offset <= data) return -EINVAL;
  }
  return facts.st_size;
}

static int open_pair(struct pair *pair, const char *mount, const char *model) {
  pair->mount = open(mount, O_RDONLY | O_CLOEXEC);
  if (pair->mount < 0) return -errno;
  pair->model = open(model, O_RDONLY | O_CLOEXEC);
  if (pair->model < 0) { fprintf(stderr, "%s: %s\n", model, strerror(errno)); exit(3); }
  return 0;
}

static void close_pair(struct pair *pair) {
  close(pair->mount);
  close(pair->model);
  pair->mount = pair->model = -1;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned long errors_of[512], reads, bytes_read;

static void report(const char *wrong) {
  const char *comma = "";
  printf("{\"reads\":%lu,\"bytes\":%lu,\"errors\":{", reads, bytes_read);
  for (int i = 0; i < 512; i++)
    if (errors_of[i] > 0) { printf("%s\"%d\":%lu", comma, i, errors_of[i]); comma = ","; }
  printf("}%s}\n", wrong);
  fflush(stdout);
}

static void note(ssize_t outcome, const char *name, const char *how) {
  reads++;
  if (outcome >= 0) { bytes_read += (unsigned long)outcome; return; }
  if (outcome != WRONG) {
    errors_of[-outcome & 511]++;
    usleep(2000);
    return;
  }
  char wrong[8192];
  snprintf(wrong, sizeof wrong, ",\"wrong\":\"%s %s at %lld: %zd instead of %zd\"", how, name,
           (long long)wrong_at, wrong_got, wrong_want);
  report(wrong);
  exit(9);
}

/* A few reads of one open file, in the ways of different programs. */
static void stress_file(const char *mount, const char *model, const char *name) {
  struct pair pair = {-1, -1};
  int opened = open_pair(&pair, mount, model);
  if (opened < 0) { note(opened, name, "open"); return; }
  struct stat facts;
  fstat(pair.model, &facts);
  uint64_t size = (uint64_t)facts.st_size + 1;
  switch (next_random() % 5) {
    case 0:
      for (off_t at = 0; at < facts.st_size && !stopping; at += 131072)
        note(compare_pread(&pair, at, 131072), name, "sequential");
      break;
    case 1:
      for (int i = 0; i < 20 && !stopping; i++)
        note(compare_pread(&pair, (off_t)(next_random() % size), 4096), name, "random");
      break;
    case 2:
      for (off_t at = facts.st_size; at > 0 && !stopping; at -= 70001)
        note(compare_pread(&pair, at > 70001 ? at - 70001 : 0, 70001), name, "backwards");
      break;
    case 3:
      note(compare_mapping(&pair, (off_t)(next_random() % size), 1 + next_random() % 900000), name, "mmap");
      break;
    default:
      note(compare_pread(&pair, facts.st_size > 5000 ? facts.st_size - 5000 : 0, 9000), name, "tail");
  }
  close_pair(&pair);
}

static int stress(char **arguments) {
  static char *names[files_max];
  size_t count = 0, capacity = 0;
  char *line = NULL, mount[8192], model[8192];
  random_state = strtoull(arguments[0], NULL, 10) * 2654435769u + 88172645463325252ULL;
  double until = now() + strtod(arguments[1], NULL);
  while (count < files_max && getline(&line, &capacity, stdin) > 0) {
    line[strcspn(line, "\n")] = 0;
    names[count++] = strdup(line);
  }
  while (!stopping && now() < until && count > 0) {
    const char *name = names[next_random() % count];
    snprintf(mount, sizeof mount, "%s/%s", arguments[2], name);
    snprintf(model, sizeof model, "%s/%s", arguments[3], name);
    stress_file(mount, model, name);
  }
  report("");
  return 0;
}

static int by_name(const void *left, const void *right) {
  return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Sorted names of a directory; the count, or -errno. */
static int list_names(const char *path, char **names) {
  DIR *directory = opendir(path);
  int count = 0;
  if (directory == NULL) return -errno;
  for (;;) {
    errno = 0;
    struct dirent *entry = readdir(directory);
    if (entry == NULL) break;
    if (entry->d_name[0] != '.' && count < files_max) names[count++] = strdup(entry->d_name);
  }
  int failed = errno;
  closedir(directory);
  if (failed != 0) return -failed;
  qsort(names, (size_t)count, sizeof *names, by_name);
  return count;
}

static void serve_list(const char *mount, const char *model) {
  static char *left[files_max], *right[files_max];
  int got = list_names(mount, left), want = list_names(model, right), at = 0;
  if (got < 0) { printf("errno %d\n", -got); return; }
  while (at < got && at < want && strcmp(left[at], right[at]) == 0) at++;
  if (at == got && at == want) printf("ok %d\n", got);
  else printf("wrong names: %d instead of %d, first %s\n", got, want, at < want ? right[at] : left[at]);
  while (got-- > 0) free(left[got]);
  while (want-- > 0) free(right[want]);
}

static void serve_stat(const char *mount, const char *model) {
  struct stat got, want;
  if (stat(mount, &got) != 0) { printf("errno %d\n", errno); return; }
  if (stat(model, &want) != 0) { printf("errno-model %d\n", errno); return; }
  if (got.st_size != want.st_size || got.st_mtime != want.st_mtime)
    printf("wrong stat: size %lld mtime %lld instead of %lld %lld\n", (long long)got.st_size,
           (long long)got.st_mtime, (long long)want.st_size, (long long)want.st_mtime);
  else printf("ok %lld\n", (long long)got.st_size);
}

static void answer(ssize_t outcome) {
  if (outcome >= 0) printf("ok %zd\n", outcome);
  else if (outcome != WRONG) printf("errno %zd\n", -outcome);
  else printf("wrong at %lld: %zd instead of %zd\n", (long long)wrong_at, wrong_got, wrong_want);
}

static int serve(void) {
  static struct pair pairs[handles_max];
  char line[16384], verb[16], first[8000], second[8000];
  int handle;
  long long offset, length;
  random_state = 88172645463325252ULL;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (sscanf(line, "list %7999s %7999s", first, second) == 2) serve_list(first, second);
    else if (sscanf(line, "stat %7999s %7999s", first, second) == 2) serve_stat(first, second);
    else if (sscanf(line, "%15s %d", verb, &handle) != 2 || handle < 0 || handle >= handles_max) return 2;
    else if (sscanf(line, "open %d %7999s %7999s", &handle, first, second) == 3)
      answer(open_pair(&pairs[handle], first, second));
    else if (strcmp(verb, "close") == 0) { close_pair(&pairs[handle]); answer(0); }
    else if (strcmp(verb, "seek") == 0) answer(compare_holes(&pairs[handle]));
    else if (sscanf(line, "%15s %d %lld %lld", verb, &handle, &offset, &length) != 4) return 2;
    else if (strcmp(verb, "pread") == 0) answer(compare_pread(&pairs[handle], offset, (size_t)length));
    else if (strcmp(verb, "mmap") == 0) answer(compare_mapping(&pairs[handle], offset, (size_t)length));
    else return 2;
    fflush(stdout);
  }
  return 0;
}

int main(int count, char **arguments) {
  struct sigaction stop = {.sa_handler = on_stop}, bus = {.sa_handler = on_bus, .sa_flags = SA_NODEFER};
  sigaction(SIGTERM, &stop, NULL);
  sigaction(SIGBUS, &bus, NULL);
  one = malloc(read_max);
  other = malloc(read_max);
  if (count == 6 && strcmp(arguments[1], "stress") == 0) return stress(arguments + 2);
  if (count == 2 && strcmp(arguments[1], "serve") == 0) return serve();
  fprintf(stderr, "usage: hammer stress SEED SECONDS MOUNT SOURCE | hammer serve\n");
  return 2;
}
