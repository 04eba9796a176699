/*
 * The least that a libfuse server can do: one directory, mirrored by lstat(2), nothing cached. What a GETATTR costs
 * through libfuse, to compare with our own protocol code.
 *
 *   cc passthrough.c $(pkg-config --cflags --libs fuse3); ./a.out SOURCE MOUNTPOINT
 */
#define FUSE_USE_VERSION 34
#include <dirent.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *source;
/* Node id 1 is the root; 2 is whatever single name was looked up last. */
static char known[4096];

static int path_of(fuse_ino_t ino, char *into, size_t size) {
  return snprintf(into, size, ino == FUSE_ROOT_ID ? "%s" : "%s/%s", source, known) < (int)size;
}

static void on_getattr(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *info) {
  char path[8192];
  struct stat facts;
  (void)info;
  if (!path_of(ino, path, sizeof path) || lstat(path, &facts) != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  facts.st_ino = ino;
  fuse_reply_attr(request, &facts, 0.0);
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name) {
  char path[8192];
  struct fuse_entry_param entry;
  memset(&entry, 0, sizeof entry);
  (void)parent;
  snprintf(known, sizeof known, "%s", name);
  if (!path_of(2, path, sizeof path) || lstat(path, &entry.attr) != 0) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  entry.ino = 2;
  entry.entry_timeout = 3600;
  fuse_reply_entry(request, &entry);
}

int main(int count, char **arguments) {
  static const struct fuse_lowlevel_ops operations = {.getattr = on_getattr, .lookup = on_lookup};
  if (count < 3) {
    fprintf(stderr, "usage: passthrough SOURCE MOUNTPOINT\n");
    return 2;
  }
  source = arguments[1];
  const char *mount_point = arguments[count - 1];
  struct fuse_args none = FUSE_ARGS_INIT(1, arguments);
  struct fuse_session *session = fuse_session_new(&none, &operations, sizeof operations, NULL);
  if (session == NULL || fuse_set_signal_handlers(session) != 0) return 1;
  if (fuse_session_mount(session, mount_point) != 0) return 1;
  int result = fuse_session_loop(session);
  fuse_session_unmount(session);
  fuse_session_destroy(session);
  return result != 0;
}
