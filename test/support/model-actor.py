"""Does one thing to two files, a stub and a plain one, and says whether both showed and hold the same.

Commands are JSON lines: {"stub": NAME, "plain": NAME, "do": [WHAT, ...]}. One line of answer each: "same", "refused"
(both with the same error), or what differs. Files that are held open between commands are pairs, too.
"""

import ctypes, errno, fcntl, json, mmap, os, struct, sys

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
held = {}
# The plain one of the two files.
truth = ""


def fill(seed, count):
    return bytes((seed * 31 + i * 7) & 0xFF for i in range(count))


def fallocate(fd, mode, offset, count):
    result = libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(count))
    if result != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def with_fd(path, flags, use):
    fd = os.open(path, flags)
    try:
        return use(fd)
    finally:
        os.close(fd)


def map_read(path, offset, count):
    size = os.stat(path).st_size
    start = offset // 4096 * 4096
    if start >= size:
        return b""
    length = min(count, size - start)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ, offset=start) as view:
        return view[:]


def map_write(path, offset, data):
    size = os.stat(path).st_size
    if offset + len(data) > size:
        return
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as view:
        view[offset : offset + len(data)] = data


# linux/fs.h
FICLONE, FICLONERANGE, FIDEDUPERANGE = 0x40049409, 0x4020940D, 0xC0189436


def block(n):
    return n // 4096 * 4096


def with_other(path, content, use):
    """Gives `use` a descriptor of another file of the same directory, and its name."""
    other = path + ".donor"
    try:
        with open(other, "w+b") as file:
            file.write(content)
            file.flush()
            return use(file.fileno(), other)
    finally:
        if os.path.exists(other):
            os.unlink(other)


def clone_range(source, target, offset, count, into):
    """Of `count` 0: to the end."""
    fcntl.ioctl(target, FICLONERANGE, struct.pack("qQQQ", source, offset, count, into))


def donor(c):
    return fill(c, 4096) * 40


def into_file(path, c, use):
    def with_donor(fd, _):
        return with_fd(path, os.O_RDWR, lambda target: use(fd, target))

    return with_other(path, donor(c), with_donor)


def out_of_file(path, use):
    """What another file holds afterwards."""

    def with_target(fd, name):
        with_fd(path, os.O_RDONLY, lambda source: use(source, fd))
        with open(name, "rb") as file:
            return file.read()

    return with_other(path, b"", with_target)


def dedupe(path, offset, c):
    """A file that has the same bytes (others where `c` is odd) wants to share blocks: what the kernel says to that."""
    with open(truth, "rb") as file:
        content = file.read()
    other = content.translate(bytes((byte + 1) & 255 for byte in range(256))) if c % 2 else content
    count = max(min(block(len(content)) - offset, 1 << 18), 0)

    def ask(fd, _):
        def with_file(own):
            source, target = (own, fd) if c % 4 < 2 else (fd, own)
            request = struct.pack("QQHHIqQQiI", offset, count, 1, 0, 0, target, offset, 0, 0, 0)
            _, shared, status, _ = struct.unpack("QQiI", fcntl.ioctl(source, FIDEDUPERANGE, request)[-24:])
            return shared, status

        return with_fd(path, os.O_RDONLY, with_file)

    return with_other(path, other, ask)


def copy_within(path, source, target, count):
    with_fd(path, os.O_RDWR, lambda fd: os.pwrite(fd, os.pread(fd, count, source), target))


def act(path, what, a, b, c):
    if what == "read":
        return with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, b, a))
    if what == "map-read":
        return map_read(path, a, b)
    if what == "size":
        return os.stat(path).st_size
    if what == "write":
        return with_fd(path, os.O_WRONLY, lambda fd: os.pwrite(fd, fill(c, b), a))
    if what == "append":
        return with_fd(path, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, fill(c, b)))
    if what == "map-write":
        return map_write(path, a, fill(c, b))
    if what == "copy-within":
        return copy_within(path, a, b, c * 1000)
    if what == "empty":
        return with_fd(path, os.O_TRUNC | (os.O_WRONLY if c % 2 else os.O_RDONLY), lambda fd: None)
    if what == "empty-grow":
        return with_fd(path, os.O_TRUNC | os.O_RDWR, lambda fd: os.ftruncate(fd, a))
    if what == "truncate":
        return os.truncate(path, a)
    if what == "ftruncate":
        return with_fd(path, os.O_WRONLY, lambda fd: os.ftruncate(fd, a))
    if what == "punch":
        return with_fd(path, os.O_WRONLY, lambda fd: fallocate(fd, 3, a, max(b, 1)))
    if what == "zero":
        return with_fd(path, os.O_WRONLY, lambda fd: fallocate(fd, 16, a, max(b, 1)))
    if what == "allocate":
        return with_fd(path, os.O_WRONLY, lambda fd: fallocate(fd, 0, a, max(b, 1)))
    if what == "collapse":
        return with_fd(path, os.O_WRONLY, lambda fd: fallocate(fd, 8, block(a), block(b) + 4096))
    if what == "insert":
        return with_fd(path, os.O_WRONLY, lambda fd: fallocate(fd, 32, block(a), block(b) + 4096))
    if what == "clone-in":
        return into_file(path, c, lambda own, fd: clone_range(own, fd, 0, 4096 * (1 + c % 40), block(a)))
    if what == "clone-all-in":
        return into_file(path, c, lambda own, fd: fcntl.ioctl(fd, FICLONE, own))
    if what == "clone-out":
        return out_of_file(path, lambda fd, own: clone_range(fd, own, block(a), block(b), 0))
    if what == "clone-all-out":
        return out_of_file(path, lambda fd, own: fcntl.ioctl(own, FICLONE, fd))
    if what == "copy-in":
        return into_file(path, c, lambda own, fd: os.copy_file_range(own, fd, b, 0, a))
    if what == "copy-out":
        return out_of_file(path, lambda fd, own: os.copy_file_range(fd, own, b, a, 0))
    if what == "dedupe":
        return dedupe(path, block(a), c)
    if what == "touch-read":
        os.utime(path, ns=(a * 1000, b * 1000))
        data = with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, b, a))
        return data, os.stat(path).st_mtime_ns
    if what == "open-write":
        return with_fd(path, os.O_RDWR, lambda fd: None)
    if what == "hold":
        held.setdefault(path, []).append(os.open(path, os.O_RDWR if c % 2 else os.O_RDONLY))
        return None
    if what == "held-read":
        return [os.pread(fd, b, a) for fd in held.get(path, [])]
    if what == "let-go":
        for fd in held.pop(path, []):
            os.close(fd)
        return None
    if what == "link":
        os.link(path, path + ".link")
        data = with_fd(path + ".link", os.O_RDONLY, lambda fd: os.pread(fd, b, a))
        os.unlink(path + ".link")
        return data
    if what == "rename":
        os.rename(path, path + ".other")
        data = with_fd(path + ".other", os.O_RDONLY, lambda fd: os.pread(fd, b, a))
        os.rename(path + ".other", path)
        return data
    if what == "all":
        with open(path, "rb") as file:
            return file.read()
    raise ValueError(what)


def attempt(path, do):
    try:
        return ("did", act(path, *do))
    except OSError as error:
        return ("failed", errno.errorcode.get(error.errno))


def first_difference(a, b):
    if isinstance(a, bytes) and isinstance(b, bytes):
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return f"{len(a)} and {len(b)} bytes, different at {at}: {a[at:at+16]!r} and {b[at:at+16]!r}"
    return f"{a!r:.100} and {b!r:.100}"


for line in sys.stdin:
    command = json.loads(line)
    truth = command["plain"]
    stub = attempt(command["stub"], command["do"])
    plain = attempt(command["plain"], command["do"])
    if stub == plain:
        print("same" if stub[0] == "did" else "refused", flush=True)
    else:
        print(f"{stub[0]} and {plain[0]}: {first_difference(stub[1], plain[1])}", flush=True)
