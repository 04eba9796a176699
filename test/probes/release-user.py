"""Changes files of a tree in place, and the same files of a native model, and sets their old times again.

    release-user.py TREE MODEL

For each line of standard input, names with blanks between them: changes all of them, then prints "ok". What a daemon
that was killed could not answer (EIO) is tried again.
"""
import errno
import mmap
import os
import sys
import time

tree, model = sys.argv[1:]


def opened(path):
    while True:
        try:
            return os.open(path, os.O_RDWR)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            time.sleep(0.005)


def change(root, name, way):
    fd = opened(os.path.join(root, name))
    try:
        facts = os.fstat(fd)
        data, at = name.encode(), facts.st_size // 3
        if way == 0:
            os.pwrite(fd, data, at)
        else:
            with mmap.mmap(fd, 0) as memory:
                memory[at : at + len(data)] = data
        os.utime(fd, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    finally:
        os.close(fd)


for line in sys.stdin:
    for index, name in enumerate(line.split()):
        change(tree, name, index % 2)
        change(model, name, 0)
    print("ok", flush=True)
