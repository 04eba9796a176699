"""Changes files of a tree at random and the same files of a native model in the same way; both stay equal.

    writer.py SEED SECONDS TREE MODEL NAME...

Ends with 9 and a line that says where when a file differs, with 0 when the time is over. SIGTERM ends it, too.
"""
import mmap
import os
import random
import signal
import sys
import time

seed, seconds, tree, model, *names = sys.argv[1:]
rng = random.Random(int(seed))
stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)


def overwrite(fd, size, offset, data):
    os.pwrite(fd, data, min(offset, size))


def append(fd, size, offset, data):
    os.pwrite(fd, data, size)


def cut(fd, size, offset, data):
    os.ftruncate(fd, offset)


def grow(fd, size, offset, data):
    os.ftruncate(fd, size + len(data))


def mapped(fd, size, offset, data):
    if size == 0:
        return
    with mmap.mmap(fd, 0) as memory:
        at = min(offset, size - 1)
        end = min(at + len(data), size)
        memory[at:end] = data[: end - at]


def rewrite(fd, size, offset, data):
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)


ways = [overwrite, overwrite, append, cut, grow, mapped, rewrite]
largest = 4 << 20
steps = 0


def differ(name):
    with open(os.path.join(tree, name), "rb") as ours, open(os.path.join(model, name), "rb") as theirs:
        a, b = ours.read(), theirs.read()
    if a == b:
        return None
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"{name}: {len(a)} bytes instead of {len(b)}, first difference at {at}"


until = time.monotonic() + float(seconds)
while not stopping and time.monotonic() < until:
    name = rng.choice(names)
    way = rng.choice(ways)
    data = rng.randbytes(rng.choice([1, 100, 4096, 70000]))
    size = os.stat(os.path.join(model, name)).st_size
    if size > largest:
        way = cut
    offset = rng.randrange(size + 1)
    flags = os.O_RDWR | (os.O_TRUNC if rng.random() < 0.1 else 0)
    for root in (tree, model):
        fd = os.open(os.path.join(root, name), flags)
        try:
            way(fd, os.fstat(fd).st_size, offset, data)
        finally:
            os.close(fd)
    steps += 1
    wrong = differ(rng.choice([name, rng.choice(names)]))
    if wrong:
        print(f"wrong after {steps} steps of seed {seed}, {way.__name__}: {wrong}", flush=True)
        sys.exit(9)
print(f"ok {steps}")
