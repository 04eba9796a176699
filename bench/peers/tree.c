/*
 * The same work as a cold sequential read in a native tree on xfs, and nothing else: bytes of one file come from another
 * directory or a web server into a file whose blocks are shared with poison, as a stub's are, and a reader follows. No
 * program around it: no events, no versions, no checks, no failures. What it costs is what the way of the bytes costs.
 *
 *   gcc -O2 -Wall -Wextra -pthread -o tree bench/peers/tree.c
 *   tree poison TARGET BYTES                         makes TARGET anew: 16 MiB of text, cloned
 *   tree copy SOURCE TARGET                          pread(2) and pwrite(2) of 2 MiB in two threads, as Ebb does
 *   tree alone SOURCE TARGET                         the same in one thread
 *   tree splice SOURCE TARGET                        splice(2) through a pipe of 1 MiB: one copy less
 *   tree map SOURCE TARGET                           pwrite(2) out of a mapping: the same
 *   tree web PORT PATH BYTES TARGET CONNECTIONS      ranges of 8 MiB, recv(2) and pwrite(2) of 1 MiB (loopback)
 *   tree serve SOURCE TARGET                         answers fanotify events: who reads a chunk of TARGET waits until its
 *                                                    256 KiB have been copied. Ends with its standard input
 *
 * Prints the reader's MB/s and the processor time (s/GiB) of everything but the reader. Root (fanotify, poison).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { piece_bytes = 2 << 20, body_bytes = 16 << 20, read_bytes = 1 << 20, pipe_bytes = 1 << 20 };
enum { range_bytes = 8 << 20, web_buffer_bytes = 1 << 20, connections_max = 64 };
static const off_t window_bytes = 64 << 20; /* nobody is further ahead of the reader */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, write_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static uint8_t *here; /* one byte for each read_bytes */
static off_t size, consumed, next_range;
static int source, target, port;
static const char *target_path, *url_path;
static double reader_cpu;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static double seconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static void came(off_t from, off_t to) {
  pthread_mutex_lock(&lock);
  for (off_t at = from; at < to; at += read_bytes) here[at / read_bytes] = 1;
  pthread_cond_broadcast(&moved);
  pthread_mutex_unlock(&lock);
}

static void keep_window(off_t at) {
  pthread_mutex_lock(&lock);
  while (at >= consumed + window_bytes) pthread_cond_wait(&moved, &lock);
  pthread_mutex_unlock(&lock);
}

static void *follow(void *unused) {
  (void)unused;
  char *buffer = malloc(read_bytes);
  int fd = open(target_path, O_RDONLY);
  if (fd < 0) fail(target_path);
  for (off_t at = 0; at < size;) {
    pthread_mutex_lock(&lock);
    while (!here[at / read_bytes]) pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    ssize_t got = pread(fd, buffer, read_bytes, at);
    if (got <= 0) fail("the reader");
    at += got;
    pthread_mutex_lock(&lock);
    consumed = at;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
  }
  reader_cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
  return NULL;
}

static void put(const char *bytes, size_t length, off_t at) {
  if (pwrite(target, bytes, length, at) != (ssize_t)length) fail("pwrite");
  came(at, at + length);
}

static size_t take(char *into, off_t at) {
  keep_window(at);
  ssize_t got = pread(source, into, piece_bytes, at);
  if (got <= 0) fail("pread");
  return got;
}

static char *pieces[2];
static size_t lengths[2]; /* 0: empty */

static void *read_ahead(void *unused) {
  (void)unused;
  int slot = 0;
  for (off_t at = 0; at < size; slot ^= 1) {
    pthread_mutex_lock(&lock);
    while (lengths[slot] > 0) pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    size_t got = take(pieces[slot], at);
    at += got;
    pthread_mutex_lock(&lock);
    lengths[slot] = got;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void copy_in_two(void) {
  pthread_t ahead;
  for (int slot = 0; slot < 2; slot += 1) pieces[slot] = malloc(piece_bytes);
  pthread_create(&ahead, NULL, read_ahead, NULL);
  int slot = 0;
  for (off_t at = 0; at < size; slot ^= 1) {
    pthread_mutex_lock(&lock);
    while (lengths[slot] == 0) pthread_cond_wait(&moved, &lock);
    pthread_mutex_unlock(&lock);
    put(pieces[slot], lengths[slot], at);
    at += lengths[slot];
    pthread_mutex_lock(&lock);
    lengths[slot] = 0;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
  }
}

static void copy_alone(void) {
  char *buffer = malloc(piece_bytes);
  for (off_t at = 0; at < size;) {
    size_t got = take(buffer, at);
    put(buffer, got, at);
    at += got;
  }
}

static void copy_by_splice(void) {
  int ends[2];
  if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, pipe_bytes) < 0) fail("pipe");
  loff_t from = 0, to = 0;
  while (to < size) {
    loff_t start = to;
    keep_window(start);
    ssize_t got = splice(source, &from, ends[1], NULL, pipe_bytes, 0);
    if (got <= 0) fail("splice");
    for (ssize_t left = got, done; left > 0; left -= done) {
      if ((done = splice(ends[0], NULL, target, &to, left, 0)) <= 0) fail("splice");
    }
    came(start, to);
  }
}

static void copy_by_map(void) {
  for (off_t at = 0; at < size;) {
    size_t length = size - at < piece_bytes ? size - at : piece_bytes;
    keep_window(at);
    char *map = mmap(NULL, length, PROT_READ, MAP_SHARED | MAP_POPULATE, source, at);
    if (map == MAP_FAILED) fail("mmap");
    put(map, length, at);
    munmap(map, length);
    at += length;
  }
}

static void *receive(void *unused) {
  (void)unused;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  char *buffer = malloc(web_buffer_bytes), head[4096];
  for (;;) {
    pthread_mutex_lock(&lock);
    off_t start = next_range, end = start + range_bytes < size ? start + range_bytes : size;
    next_range = end;
    pthread_mutex_unlock(&lock);
    if (start >= size) return NULL;
    keep_window(start);
    const char *request = "GET %s HTTP/1.1\r\nhost: localhost\r\nrange: bytes=%lld-%lld\r\n\r\n";
    int length = snprintf(head, sizeof head, request, url_path, (long long)start, (long long)end - 1);
    if (write(fd, head, length) != length) fail("request");
    for (size_t have = 0;;) {
      if (have == sizeof head || recv(fd, head + have, 1, 0) != 1) fail("head");
      have += 1;
      if (have >= 4 && memcmp(head + have - 4, "\r\n\r\n", 4) == 0) break;
    }
    for (off_t at = start; at < end;) {
      size_t want = end - at < web_buffer_bytes ? end - at : web_buffer_bytes;
      if (recv(fd, buffer, want, MSG_WAITALL) != (ssize_t)want) fail("recv");
      pthread_mutex_lock(&write_lock);
      put(buffer, want, at);
      pthread_mutex_unlock(&write_lock);
      at += want;
    }
  }
}

static void copy_from_web(int connections) {
  pthread_t threads[connections_max];
  if (connections < 1 || connections > connections_max) fail("connections");
  for (int at = 0; at < connections; at += 1) pthread_create(&threads[at], NULL, receive, NULL);
  for (int at = 0; at < connections; at += 1) pthread_join(threads[at], NULL);
}

static void make_poison(const char *path, off_t bytes) {
  char body_path[4096];
  snprintf(body_path, sizeof body_path, "%s.body", path);
  int body = open(body_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  int stub = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (body < 0 || stub < 0) fail(path);
  char *text = malloc(body_bytes);
  memset(text, 'p', body_bytes);
  if (pwrite(body, text, body_bytes, 0) != body_bytes || fsync(body) != 0) fail(body_path);
  for (off_t at = 0; at < bytes; at += body_bytes) {
    struct file_clone_range range = {.src_fd = body, .src_length = body_bytes, .dest_offset = at};
    if (ioctl(stub, FICLONERANGE, &range) != 0) fail("FICLONERANGE");
  }
  if (fsync(stub) != 0) fail(path);
}

#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS 0x00100000
#endif
enum { chunk_bytes = 256 << 10, range_record = 6 };

struct range_info { /* linux/fanotify.h of 6.14 */
  struct fanotify_event_info_header head;
  uint32_t pad;
  uint64_t offset, count;
};

static void bring(uint64_t offset, uint64_t count, char *buffer) {
  for (off_t at = offset / chunk_bytes * chunk_bytes; at < size && at < (off_t)(offset + count); at += chunk_bytes) {
    if (here[at / chunk_bytes]) continue;
    ssize_t got = pread(source, buffer, chunk_bytes, at);
    if (got <= 0 || pwrite(target, buffer, got, at) != got) fail("copy");
    here[at / chunk_bytes] = 1;
  }
}

/* Our own descriptors were opened before anything was marked: they raise no events. */
static void serve(void) {
  int group = fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_UNLIMITED_QUEUE | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE);
  char *buffer = malloc(chunk_bytes);
  static char events[65536] __attribute__((aligned(8)));
  if (group < 0 || fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_PRE_ACCESS | FAN_OPEN_PERM, AT_FDCWD,
                                 target_path) != 0)
    fail("fanotify");
  puts("ready");
  fflush(stdout);
  struct pollfd polled[] = {{group, POLLIN, 0}, {0, POLLIN, 0}};
  while (poll(polled, 2, -1) > 0 && polled[1].revents == 0) {
    ssize_t got = read(group, events, sizeof events);
    if (got < 0) continue;
    for (struct fanotify_event_metadata *event = (void *)events; FAN_EVENT_OK(event, got);
         event = FAN_EVENT_NEXT(event, got)) {
      struct range_info *range = (void *)(event + 1);
      int has_range = event->event_len >= sizeof *event + sizeof *range && range->head.info_type == range_record;
      if (has_range) bring(range->offset, range->count, buffer);
      struct fanotify_response answer = {.fd = event->fd, .response = FAN_ALLOW};
      if (write(group, &answer, sizeof answer) != sizeof answer) fail("answer");
      close(event->fd);
    }
  }
}

int main(int count, char **words) {
  const char *mode = count > 1 ? words[1] : "";
  if (count == 4 && strcmp(mode, "poison") == 0) {
    make_poison(words[2], atoll(words[3]));
    return 0;
  }
  int is_web = count == 7 && strcmp(mode, "web") == 0;
  if (count != 4 && !is_web) return 2;
  target_path = words[is_web ? 5 : 3];
  if ((target = open(target_path, O_RDWR)) < 0) fail(target_path);
  if (is_web) {
    port = atoi(words[2]);
    url_path = words[3];
    size = atoll(words[4]);
  } else {
    struct stat status;
    if ((source = open(words[2], O_RDONLY)) < 0 || fstat(source, &status) != 0) fail(words[2]);
    size = status.st_size;
  }
  here = calloc(size / chunk_bytes + 1, 1);
  if (strcmp(mode, "serve") == 0) {
    serve();
    return 0;
  }
  double started = seconds(CLOCK_MONOTONIC);
  pthread_t reader;
  pthread_create(&reader, NULL, follow, NULL);
  if (is_web) copy_from_web(atoi(words[6]));
  else if (strcmp(mode, "copy") == 0) copy_in_two();
  else if (strcmp(mode, "alone") == 0) copy_alone();
  else if (strcmp(mode, "splice") == 0) copy_by_splice();
  else if (strcmp(mode, "map") == 0) copy_by_map();
  else return 2;
  pthread_join(reader, NULL);
  double wall = seconds(CLOCK_MONOTONIC) - started;
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  double user = use.ru_utime.tv_sec + use.ru_utime.tv_usec / 1e6, kernel = use.ru_stime.tv_sec + use.ru_stime.tv_usec / 1e6;
  printf("{\"mbPerSecond\":%.0f,\"cpu\":%.3f}\n", size / wall / 1e6, (user + kernel - reader_cpu) / (size / 1073741824.0));
  return 0;
}
