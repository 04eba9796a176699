"""What systemd does for a service with FileDescriptorStoreMax=, Type=notify, NotifyAccess=all, KillMode=process and
Restart=on-failure, RestartPreventExitStatus=2 3, for tests: the same protocol (sd_notify(3), sd_listen_fds(3)), one service.

    service-manager.py DIRECTORY MAX COMMAND...

Says on descriptor 3, one JSON object a line, what happens: started, ready, stored, removed, ended. Takes on
standard input: `release` lets go of all that is stored and starts nothing any more; `forget NAME` lets go of what
begins with that. Ends with the service."""
import array, ctypes, json, os, select, signal, socket, sys, time

directory, most, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
restart_after_s = 0.1
events = os.fdopen(3, "w")  # not what the service prints to
store = []  # (name, descriptor)
restarting = True


def say(event, **facts):
    facts.update(event=event, stored=[name for name, _ in store])
    print(json.dumps(facts), file=events, flush=True)


# Whose parents die are its children, as with systemd: PR_SET_CHILD_SUBREAPER.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
address = os.path.join(directory, "notify")
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(address)
woken, waker = os.pipe()
os.set_blocking(waker, False)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(waker)


def start():
    pid = os.fork()
    if pid != 0:
        say("started", pid=pid)
        return pid
    given = [os.dup(descriptor) for _, descriptor in store]
    high = [os.dup2(descriptor, 500 + index) for index, descriptor in enumerate(given)]
    os.closerange(3, 500)
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, 3 + index, inheritable=True)
    os.closerange(3 + len(high), 1024)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.environ["NOTIFY_SOCKET"] = address
    if store:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(store))
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in store)
    os.execvp(command[0], command)


def is_same(one, other):
    """kcmp(2), KCMP_FILE: two descriptors of one open file."""
    return ctypes.CDLL(None).syscall(312 if os.uname().machine == "x86_64" else 272,
                                     os.getpid(), os.getpid(), 0, one, other) == 0


def take(text, descriptors):
    fields = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    if fields.get("FDSTORE") == "1":
        for descriptor in descriptors:
            known = any(is_same(descriptor, other) for _, other in store)
            if known or len(store) >= most:
                os.close(descriptor)
            else:
                store.append((fields.get("FDNAME", "stored"), descriptor))
        say("stored")
        return
    for descriptor in descriptors:
        os.close(descriptor)
    if fields.get("FDSTOREREMOVE") == "1":
        for entry in [entry for entry in store if entry[0] == fields.get("FDNAME")]:
            store.remove(entry)
            os.close(entry[1])
        say("removed")
    if fields.get("READY") == "1":
        say("ready")


def let_go(beginning=""):
    for entry in [entry for entry in store if entry[0].startswith(beginning)]:
        store.remove(entry)
        os.close(entry[1])


def receive():
    text, control, _, _ = listener.recvmsg(65536, socket.CMSG_SPACE(4 * 16), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload)
    take(text.decode(), list(descriptors))


main = start()
while True:
    readable, _, _ = select.select([listener, woken, sys.stdin], [], [])
    if listener in readable:
        receive()
    if sys.stdin in readable:
        line = sys.stdin.readline()
        if line == "":
            sys.exit(0)
        if line.startswith("forget "):
            let_go(line.split()[1])
            say("forgotten")
            continue
        restarting = False
        let_go()
        say("released")
    if woken in readable:
        os.read(woken, 4096)
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == main:
                code = os.waitstatus_to_exitcode(status)
        if code is None:
            continue
        if code in (0, 2, 3) or not restarting:
            let_go()
            say("ended", code=code)
            sys.exit(0)
        time.sleep(restart_after_s)
        main = start()
