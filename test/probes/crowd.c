/*
 * Very many threads, each of which reads one place of a file at the same moment and compares it with its source.
 *
 *   crowd THREADS FILE SOURCE
 *
 * Opens both, says "open", waits for a line on standard input, says "asked" when all threads are on their way, and at
 * the end JSON: {"started":..,"right":..,"wrong":..,"errors":{"11":2}}.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { piece = 512, place = 4096, stack_bytes = 64 << 10, errnos_max = 200 };

static int file, source;
static off_t places;
static unsigned long right_count, wrong_count, errors_of[errnos_max];

static void *read_one(void *number) {
  unsigned char ours[piece], theirs[piece];
  off_t at = (off_t)((unsigned long)number % (unsigned long)places) * place;
  ssize_t got = pread(file, ours, piece, at);
  if (got < 0) {
    __atomic_add_fetch(&errors_of[errno % errnos_max], 1, __ATOMIC_RELAXED);
    return NULL;
  }
  int is_right = pread(source, theirs, piece, at) == got && memcmp(ours, theirs, (size_t)got) == 0;
  __atomic_add_fetch(is_right ? &right_count : &wrong_count, 1, __ATOMIC_RELAXED);
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  unsigned long threads = strtoul(arguments[1], NULL, 10), started = 0;
  struct stat facts;
  file = open(arguments[2], O_RDONLY);
  source = open(arguments[3], O_RDONLY);
  if (file < 0 || source < 0 || fstat(source, &facts) != 0) return 3;
  places = facts.st_size / place;
  pthread_t *all = calloc(threads, sizeof *all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack_bytes);
  puts("open");
  fflush(stdout);
  if (getchar() == EOF) return 4;
  while (started < threads && pthread_create(&all[started], &attributes, read_one, (void *)started) == 0) started++;
  puts("asked");
  fflush(stdout);
  for (unsigned long i = 0; i < started; i++) pthread_join(all[i], NULL);
  printf("{\"started\":%lu,\"right\":%lu,\"wrong\":%lu,\"errors\":{", started, right_count, wrong_count);
  const char *comma = "";
  for (int i = 0; i < errnos_max; i++)
    if (errors_of[i] > 0) { printf("%s\"%d\":%lu", comma, i, errors_of[i]); comma = ","; }
  puts("}}");
  return 0;
}
