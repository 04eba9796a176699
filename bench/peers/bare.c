/*
 * The same work as a cold sequential read through a mount, and nothing else: ranges of one file are received from a web
 * server over several connections, written to a file of a cache directory, read from there and given to /dev/fuse. No
 * program around it: no names, no versions, no checks, no failures. What it costs is what the way of the bytes costs.
 *
 *   gcc -O2 -pthread -o bare bench/peers/bare.c
 *   bare PORT PATH SIZE CACHEFILE MOUNTPOINT CONNECTIONS     (root; a web server on loopback)
 *   reader sequential MOUNTPOINT/file                        (bench/reader.c)
 *
 * Shows the file until it is unmounted, then prints its processor time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { piece_bytes = 8 << 20, buffer_bytes = 1 << 20, read_bytes = 1 << 20, sync_ms = 1000 };
static const uint64_t window_bytes = 64 << 20;

static uint64_t size, wanted_end, next_piece;
static const char *url_path;
static int port, cache, device;
static uint8_t *resident; /* one byte for each buffer_bytes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, write_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(1);
}

static int connect_to(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static void *receive(void *unused) {
  (void)unused;
  int fd = connect_to();
  char *buffer = malloc(buffer_bytes), head[4096];
  for (;;) {
    pthread_mutex_lock(&lock);
    while (next_piece < size && next_piece >= wanted_end + window_bytes) pthread_cond_wait(&changed, &lock);
    uint64_t start = next_piece, end = start + piece_bytes < size ? start + piece_bytes : size;
    next_piece = end;
    pthread_mutex_unlock(&lock);
    if (start >= size) return NULL;
    const char *request = "GET %s HTTP/1.1\r\nhost: localhost\r\nrange: bytes=%llu-%llu\r\n\r\n";
    unsigned long long first = start, last = end - 1;
    int length = snprintf(head, sizeof head, request, url_path, first, last);
    if (write(fd, head, length) != length) fail("request");
    size_t have = 0;
    char *body = NULL;
    while (body == NULL) {
      ssize_t got = recv(fd, head + have, 1, 0); /* a head is short: exactly to its end */
      if (got <= 0) fail("head");
      have += got;
      if (have >= 4 && memcmp(head + have - 4, "\r\n\r\n", 4) == 0) body = head + have;
      if (have == sizeof head) fail("long head");
    }
    for (uint64_t at = start; at < end;) {
      size_t want = end - at < buffer_bytes ? end - at : buffer_bytes, filled = 0;
      while (filled < want) {
        ssize_t got = recv(fd, buffer + filled, want - filled, 0);
        if (got <= 0) fail("recv");
        filled += got;
      }
      pthread_mutex_lock(&write_lock);
      if (pwrite(cache, buffer, want, at) != (ssize_t)want) fail("pwrite");
      pthread_mutex_unlock(&write_lock);
      pthread_mutex_lock(&lock);
      resident[at / buffer_bytes] = 1;
      pthread_cond_broadcast(&changed);
      pthread_mutex_unlock(&lock);
      at += want;
    }
  }
}

static void *sync_often(void *unused) {
  (void)unused;
  for (;;) {
    usleep(sync_ms * 1000);
    fdatasync(cache);
  }
  return NULL;
}

static void answer(uint64_t unique, int error, const void *bytes, size_t length) {
  struct fuse_out_header out = {.len = sizeof out + length, .error = -error, .unique = unique};
  struct iovec parts[] = {{&out, sizeof out}, {(void *)bytes, length}};
  if (writev(device, parts, 2) < 0 && errno != ENOENT) fail("answer");
}

static void attributes(struct fuse_attr *attr, uint64_t node) {
  memset(attr, 0, sizeof *attr);
  attr->ino = node;
  attr->mode = node == 1 ? S_IFDIR | 0555 : S_IFREG | 0444;
  attr->nlink = 1;
  attr->size = node == 1 ? 0 : size;
  attr->blksize = 4096;
}

static void *serve(void *unused) {
  (void)unused;
  char *request = malloc(read_bytes + 65536), *data = malloc(read_bytes);
  for (;;) {
    ssize_t got = read(device, request, read_bytes + 65536);
    if (got < 0 && (errno == ENODEV || errno == ECONNABORTED)) return NULL;
    if (got < 0) continue;
    struct fuse_in_header *in = (void *)request;
    void *body = request + sizeof *in;
    switch (in->opcode) {
      case FUSE_INIT: {
        struct fuse_init_in *init = body;
        struct fuse_init_out out = {.major = 7, .minor = 31, .max_background = 64, .congestion_threshold = 48};
        out.max_readahead = init->max_readahead;
        out.flags = init->flags & (FUSE_ASYNC_READ | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS);
        out.max_write = read_bytes;
        out.max_pages = read_bytes / 4096;
        answer(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 1000, .attr_valid = 1000};
        attributes(&out.attr, 2);
        int error = strcmp(body, "file") == 0 ? 0 : ENOENT;
        answer(in->unique, error, &out, error == 0 ? sizeof out : 0);
        break;
      }
      case FUSE_GETATTR: {
        struct fuse_attr_out out = {.attr_valid = 1000};
        attributes(&out.attr, in->nodeid);
        answer(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_OPEN:
      case FUSE_OPENDIR: {
        struct fuse_open_out out = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
        answer(in->unique, 0, &out, sizeof out);
        break;
      }
      case FUSE_READ: {
        struct fuse_read_in *want = body;
        uint64_t end = want->offset + want->size < size ? want->offset + want->size : size;
        pthread_mutex_lock(&lock);
        if (end > wanted_end) {
          wanted_end = end;
          pthread_cond_broadcast(&changed);
        }
        for (uint64_t at = want->offset / buffer_bytes; at * buffer_bytes < end; at += 1)
          while (!resident[at]) pthread_cond_wait(&changed, &lock);
        pthread_mutex_unlock(&lock);
        size_t length = end > want->offset ? end - want->offset : 0;
        if (pread(cache, data, length, want->offset) != (ssize_t)length) fail("pread");
        answer(in->unique, 0, data, length);
        break;
      }
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        break;
      case FUSE_RELEASE:
      case FUSE_RELEASEDIR:
      case FUSE_FLUSH:
        answer(in->unique, 0, NULL, 0);
        break;
      default:
        answer(in->unique, ENOSYS, NULL, 0);
    }
  }
}

int main(int count, char **arguments) {
  if (count != 7) return 2;
  port = atoi(arguments[1]);
  url_path = arguments[2];
  size = strtoull(arguments[3], NULL, 10);
  cache = open(arguments[4], O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (cache < 0 || ftruncate(cache, size) != 0) fail(arguments[4]);
  int connections = atoi(arguments[6]);
  resident = calloc(size / buffer_bytes + 1, 1);
  device = open("/dev/fuse", O_RDWR);
  char options[200];
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
  if (mount("bare", arguments[5], "fuse", MS_RDONLY | MS_NOSUID | MS_NODEV, options) != 0) fail("mount");
  pthread_t server[2], other;
  pthread_create(&server[0], NULL, serve, NULL);
  struct stat facts;
  if (stat(arguments[5], &facts) != 0) fail("stat");
  char tune[64];
  snprintf(tune, sizeof tune, "/sys/class/bdi/0:%u/read_ahead_kb", (unsigned)facts.st_dev & 0xff);
  int setting = open(tune, O_WRONLY);
  if (setting < 0 || write(setting, "4096", 4) != 4) fail(tune);
  pthread_create(&server[1], NULL, serve, NULL);
  pthread_create(&other, NULL, sync_often, NULL);
  for (int i = 0; i < connections; i += 1) pthread_create(&other, NULL, receive, NULL);
  puts("ready");
  fflush(stdout);
  pthread_join(server[0], NULL);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  const struct timeval user = used.ru_utime, system = used.ru_stime;
  printf("{\"user\":%ld.%06ld,\"system\":%ld.%06ld}\n", user.tv_sec, user.tv_usec, system.tv_sec, system.tv_usec);
  fflush(stdout);
  _exit(0);
}
