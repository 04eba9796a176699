/*
 * A process whose files /proc/PID does not show: holder FILE leader|own
 * leader: the first thread opens FILE and ends, another one lives on.
 * own: another thread has a table of descriptors of its own (unshare(2)) and opens FILE in it.
 * Prints a line when it has it, then waits for its end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *file;

static void have(void) {
    if (open(file, O_RDONLY) < 0) {
        perror(file);
        _exit(1);
    }
}

static void say(void) {
    puts("open");
    fflush(stdout);
}

static void *live(void *own) {
    if (own != NULL) {
        if (unshare(CLONE_FILES | CLONE_FS) != 0) {
            perror("unshare");
            _exit(1);
        }
        have();
        say();
    }
    for (;;) pause();
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    file = arguments[1];
    int own = strcmp(arguments[2], "own") == 0;
    if (!own) have();
    pthread_t thread;
    if (pthread_create(&thread, NULL, live, own ? &thread : NULL) != 0) return 1;
    if (own) pause();
    say();
    pthread_exit(NULL);
}
