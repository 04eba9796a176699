/*
 * Uses a file while a timer interrupts it every 20 ms: alarmed stat|list|map FILE OFFSET
 * map: one byte at OFFSET of a mapping without read-ahead.
 * The handler has SA_RESTART, as programs have it that show how far they are.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms;

static void alarmed(int number) {
    (void)number;
    alarms++;
}

static int result(const char *what) {
    if (errno == 0) return 0;
    printf("%s: %s after %d alarms\n", what, strerror(errno), (int)alarms);
    return 1;
}

static int list(const char *directory) {
    DIR *entries = opendir(directory);
    if (entries == NULL) return result("opendir");
    errno = 0;
    while (readdir(entries) != NULL) errno = 0;
    return result("readdir");
}

static int read_mapped(int fd, long offset) {
    struct stat facts;
    if (fstat(fd, &facts) != 0) return result("fstat");
    char *bytes = mmap(NULL, facts.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) return result("mmap");
    madvise(bytes, facts.st_size, MADV_RANDOM);
    putchar(bytes[offset]);
    return 0;
}

int main(int count, char **words) {
    if (count < 4) return 2;
    struct sigaction action = {.sa_handler = alarmed, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 20000}, {0, 20000}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    errno = 0;
    if (strcmp(words[1], "list") == 0) return list(words[2]);
    struct stat facts;
    if (strcmp(words[1], "stat") == 0) return stat(words[2], &facts) == 0 ? 0 : result("stat");
    int fd = open(words[2], O_RDONLY);
    return fd < 0 ? result("open") : read_mapped(fd, atol(words[3]));
}
