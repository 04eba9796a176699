"""Plays libfuse's mount program (util/mount_service.c of its master branch, protocol 1) to a service, and mounts.

    mount-program.py WORDS COMMAND...     WORDS: what a user has typed, a JSON list; COMMAND: the service

Ends when the service has said goodbye; says {"pid": of the service, "code": its word, "asked": what it has asked for}.
"""
import array, ctypes, json, os, socket, struct, sys

words, command = json.loads(sys.argv[1]), sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    os.dup2(theirs.fileno(), 3, inheritable=True)
    os.closerange(4, 256)
    # Whoever waits for our output does not wait for the service.
    log = os.open(os.environ.get("SERVICE_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execvp(command[0], command)
theirs.close()
ours.settimeout(240)


def string(packet, start):
    assert packet[-1] == 0 and packet.find(b"\0", start) == len(packet) - 1, packet
    return os.fsdecode(packet[start:-1])


def give(name, descriptor):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    ours.sendmsg([b"FILE" + struct.pack(">I", 0) + os.fsencode(name) + b"\0"], rights)


def reply(error=0):
    ours.send(b"REPL" + struct.pack(">I", error))


ours.send(b"SAFT" + struct.pack(">HHI", 1, 1, 3))
assert ours.recv(100) == b"LAST" + struct.pack(">HH", 1, 0)
typed = [os.fsencode(word) + b"\0" for word in words]
table, at = b"ARGS" + struct.pack(">I", len(typed)), 8 + 8 * len(typed)
for word in typed:
    table += struct.pack(">II", at, len(word))
    at += len(word)
arguments = os.memfd_create("fuse service argv")
os.pwrite(arguments, table + b"".join(typed), 0)
give("argv", arguments)
device = os.open("/dev/fuse", os.O_RDWR)
give("fusedev", device)
said, asked, code = {}, [], None
while code is None:
    packet = ours.recv(65536)
    if packet == b"":
        break
    kind = packet[:4].decode()
    asked.append(kind)
    if kind == "OPEN":
        flags, mode, request, block = struct.unpack(">4I", packet[4:20])
        path = string(packet, 20)
        assert path in words and (mode, request, block) == (0, 0, 0)
        try:
            opened = os.open(path, flags)
            give(path, opened)
            os.close(opened)
        except OSError as error:
            ours.send(b"FILE" + struct.pack(">I", error.errno) + os.fsencode(path) + b"\0")
    elif kind == "TYPE":
        assert packet[4:] == struct.pack(">I", 0)
        reply()
    elif kind in ("NAME", "OPTS"):
        assert kind not in said
        said[kind] = string(packet, 4)
        reply()
    elif kind == "MNTP":
        assert struct.unpack(">HH", packet[4:8]) == (0o040000, 0)
        said[kind] = string(packet, 8)
        assert said[kind] in words
        reply()
    elif kind == "DOIT":
        (flags,) = struct.unpack(">I", packet[4:])
        options = f"{said['OPTS']},fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        names = [os.fsencode(each) for each in (said["NAME"], said["MNTP"], f"fuse.{words[0]}")]
        failed = libc.mount(*names, flags, options.encode()) != 0
        reply(ctypes.get_errno() if failed else 0)
    elif kind == "BYEE":
        (code,) = struct.unpack(">I", packet[4:])
    else:
        raise AssertionError(packet)
print(json.dumps({"pid": pid, "code": code, "asked": asked}))
