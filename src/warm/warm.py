"""MassGen kept warm: imports it once and forks each run from there, which saves the seconds of imports and the memory of all but one.

It is run by MassGen's own interpreter, as `python -u warm.py NAME PROGRAM IDLE_S` in a private folder, with its lock as standard
input, and listens there on the Unix socket NAME.sock until nobody has asked for IDLE_S seconds, a day has passed, or the socket is taken
away. For each request it forks a keeper, which is a child subreaper and forks MassGen's process, the leader; it tells the run's
supervisor, over the same connection, who they are and how the leader ended, and it goes when nothing is left below it. When the
supervisor is gone, the keeper ends all that is below it. The supervisor sends every signal; this program sends none but in that case. It never writes into a
run's folder, and it answers nobody but its own user.

A run gets exactly the environment that its supervisor names. What the import read of the environment is remembered, and a run for
which that would have been another is refused (`cold`): it has to be started in the usual way.
"""

import atexit
import ctypes
import gc
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types

# Variables that differ from run to run and are none of the import's business.
OF_EACH_RUN = {"PATH", "MASSGEN_LOG_BASE_DIR"}
OURS = "MASSGEN_MCP_"
# What is read by walking over the whole environment, or by libraries in C, which do not ask Python for it.
ALSO_READ = re.compile(
    r"(?i:.*_proxy)|(FASTMCP|DOCKET|TQDM|GIT|LC|PYTHON|LD|OPENSSL|SSL|MALLOC|OMP|OPENBLAS|MKL|OTEL)_.*|PYTHON.*|LANG|LANGUAGE|TZ"
)
# Those that walk over it, and what they look for there is in ALSO_READ; dotenv asks only in order to set.
WALKERS = ("dotenv", "pydantic_settings", "tqdm", "git", "urllib", "subprocess")
# After so many seconds it goes: files that the import read, such as lists of prices, may have been written anew.
A_DAY = 86400
# What the supervisor says.
GO, DONE = b"g", b"d"
RUNS_OWN = re.compile(r"/runs/mg-[a-z0-9]+/bin/?$")

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
libc = ctypes.CDLL(None, use_errno=True)


def prctl(option, value):
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


# ---- The import, watched ----


class Watched:
    """What the import asks of the environment, what it changes there, and which .env files it loads."""

    def __init__(self):
        self.folder = os.getcwd()
        self.start = dict(os.environ)
        self.read = {}
        self.written = set()
        self.walked_by = set()
        self.loaded = []

    def __enter__(self):
        import dotenv

        usual = os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__
        self.usual, self.load_dotenv = usual, dotenv.load_dotenv

        def getitem(environment, name):
            if isinstance(name, str) and name not in self.written and not who_asks().startswith(WALKERS):
                self.read.setdefault(name, environment._data.get(os.fsencode(name)))
            return usual[0](environment, name)

        def setitem(environment, name, value):
            if not who_asks().startswith("dotenv"):
                self.written.add(name)
            usual[1](environment, name, value)

        def walk(environment):
            self.walked_by.add(who_asks())
            return usual[2](environment)

        os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__ = getitem, setitem, walk
        dotenv.load_dotenv = dotenv.main.load_dotenv = self.load
        return self

    def __exit__(self, *_):
        import dotenv

        os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__ = self.usual
        dotenv.load_dotenv = dotenv.main.load_dotenv = self.load_dotenv
        self.written = {name: os.environ[name] for name in self.written if name in os.environ}
        self.end = dict(os.environ)
        known = all(module.startswith(WALKERS) for module in self.walked_by)
        self.also_read = ALSO_READ if known else re.compile(".*")

    def load(self, dotenv_path=None, *rest, **options):
        asker = sys._getframe(1).f_code.co_filename
        self.loaded.append((dotenv_path, asker, rest, options))
        path = dotenv_path or found_above(asker)
        return self.load_dotenv(path, *rest, **options) if path else False

    def imported_with(self, environment, folder):
        """Makes this process's environment and folder what they would be after an import with these.

        Gives the first variable for which that import could have gone another way; None where it could not."""
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for path, asker, rest, options in self.loaded:
            whole = os.path.join(self.folder, path) if path else found_above(asker)
            if path and os.path.commonpath([self.folder, whole]) == self.folder:
                whole = os.path.join(folder, os.path.relpath(whole, self.folder))
            if whole:
                self.load_dotenv(whole, *rest, **options)
        differs = self.differs()
        os.environ.update(self.written)
        return differs

    def differs(self):
        own = os.environ
        for name, value in sorted(self.read.items()):
            if not of_each_run(name) and os.environb.get(os.fsencode(name)) != value:
                return name
        for name in sorted({*self.end, *own} - {*self.written}):
            if self.also_read.fullmatch(name) and not of_each_run(name) and self.end.get(name) != own.get(name):
                return name
        return None if path_without_runs(self.start) == path_without_runs(own) else "PATH"


def of_each_run(name):
    return name in OF_EACH_RUN or name.startswith(OURS)


def who_asks():
    """The module that asks, beyond those through which everybody asks."""
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__") in ("os", "collections.abc", __name__):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "?") if frame else "?"


def found_above(asker):
    """The .env file that dotenv finds for whoever names none: in the folder of the asking file, or the nearest above."""
    folder = os.path.dirname(os.path.abspath(asker))
    while not os.path.isfile(os.path.join(folder, ".env")):
        if folder == os.path.dirname(folder):
            return ""
        folder = os.path.dirname(folder)
    return os.path.join(folder, ".env")


def path_without_runs(environment):
    """PATH without its first folder, which is the program's, and without those of runs above."""
    return [folder for folder in environment.get("PATH", "").split(":")[1:] if not RUNS_OWN.search(folder)]


# ---- One run ----


def receive(connection):
    head, fds, _, _ = socket.recv_fds(connection, 4, 2)
    missing = struct.unpack("!I", head)[0]
    text = b""
    while len(text) < missing and (part := connection.recv(missing - len(text))):
        text += part
    return json.loads(text), fds


def say(connection, **what):
    connection.sendall(json.dumps(what).encode() + b"\n")


def keep(connection, watched, code):
    """The keeper's whole life."""
    prctl(PR_SET_NAME, b"massgen-keeper")
    request, outputs = receive(connection)
    differs = watched.imported_with(request["env"], request["cwd"])
    if differs:
        return say(connection, cold=f"{differs} is not what it was when MassGen was imported")
    if "argv" not in request:
        return say(connection, fits=True)
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.umask(request["umask"])
    # Held open, it tells a server below which run it belongs to; that run's record names this process.
    lock = os.open(request["lock"], os.O_RDONLY)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper = os.getpid()
    say(connection, keeper=keeper)
    # A supervisor that has given up waiting, or that could not put the keeper on record, starts nothing here.
    if connection.recv(1) != GO:
        return
    leader = os.fork()
    if leader == 0:
        connection.close()
        os.close(lock)
        lead(request["argv"], outputs, keeper, code)
    for output in outputs:
        os.close(output)
    os.chdir("/")
    bells = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    told = threading.Event()
    signal.set_wakeup_fd(bells[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    # Read before anybody can reap it: it is the same process, whoever has its pid later.
    say(connection, leader=leader, start_ticks=start_ticks(leader))
    look_after(connection, leader, bells[0], told)


def look_after(connection, leader, bell, told):
    """Reaps whatever ends below, until nothing is left; ends it once the supervisor is gone."""
    ended = False
    while True:
        statuses, left = reap()
        if leader in statuses and not ended:
            ended = True
            status = statuses[leader]
            try:
                say(connection, exit=how_it_ended(status), left=left)
            except OSError:
                told.set()
        if not left:
            return
        if told.is_set():
            return end_all()
        ready, _, _ = select.select([connection, bell], [], [])
        if bell in ready:
            os.read(bell, 4096)
        if connection in ready:
            if connection.recv(1) == DONE:
                return
            told.set()


def start_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def reap():
    """How those ended that have, and whether any are left."""
    statuses = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return statuses, False
        if pid == 0:
            return statuses, True
        statuses[pid] = status


def how_it_ended(status):
    return {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}


def end_all():
    """SIGTERM to the children, two seconds, then SIGKILL. A child that ends leaves its own children to this process, so that the
    children are all that ever has to be signalled, and none of them can be somebody else: only this process reaps them."""
    for child in children():
        os.kill(child, signal.SIGTERM)
    pause, until = 0.01, time.monotonic() + 2
    while reap()[1]:
        if time.monotonic() > until:
            for child in children():
                os.kill(child, signal.SIGKILL)
            pause = min(2 * pause, 1)
        time.sleep(pause)


def children():
    own = str(os.getpid())
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[1] == own:
                    yield int(name)
        except OSError:
            pass  # It ended during the look.


def lead(argv, outputs, keeper, code):
    """Becomes MassGen's process, and does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(127)
        for number, output in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(output, number)
            os.close(output)
        for usual in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(usual, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_NAME, b"massgen")
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        sys.argv = argv
        main = types.ModuleType("__main__")
        main.__file__ = argv[0]
        sys.modules["__main__"] = main
        os._exit(call(code, main.__dict__))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(127)


def call(code, names):
    """Runs a script as the interpreter would, to the exit code; only its memory is not cleaned up, which takes seconds."""
    status, interrupted = 0, False
    try:
        exec(code, names)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
        # The frames of this program are none of the script's.
        sys.excepthook(type(error), error.with_traceback(error.__traceback__.tb_next), error.__traceback__)
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        status = 120
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status & 0xFF


# ---- The warm process ----


def reset_signals():
    """Undoes what the launcher blocked or ignored: no run inherits it. Python itself ignores two."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def main(name, program, idle_s):
    reset_signals()
    os.setsid()
    prctl(PR_SET_NAME, b"massgen-warm")
    # The lock that says that this process lives: it came as standard input, so that it was held before.
    turn, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.path[0] = os.path.dirname(program)
    sys.argv = [program]
    with open(program) as script:
        code = compile(script.read(), program, "exec")
    with Watched() as watched:
        # Under another name than __main__ the script imports and does nothing more.
        exec(code, {"__name__": "__warm__", "__file__": program})
    if threading.active_count() != 1:
        sys.exit("the import has started threads, and a process with threads cannot be forked")
    gc.collect()
    gc.freeze()
    serve(name, turn, float(idle_s), watched, code)
    # Nothing is left to be flushed, and the memory is cleaned up by the kernel.
    os._exit(0)


def serve(name, turn, idle_s, watched, code):
    # The kernel reaps the keepers; nobody has to hear of their end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    usual = os.umask(0o177)
    listener.bind(f"{name}.new")
    os.umask(usual)
    listener.listen(64)
    os.rename(f"{name}.new", f"{name}.sock")
    listener.settimeout(idle_s)
    until = time.monotonic() + A_DAY
    while time.monotonic() < until:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        # Whoever takes the socket away wants it to end.
        if not os.path.exists(f"{name}.sock"):
            return
        if os.fork() == 0:
            listener.close()
            os.close(turn)
            connection.settimeout(None)
            try:
                keep(connection, watched, code)
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(0)
        connection.close()
    os.unlink(f"{name}.sock")


if __name__ == "__main__":
    main(*sys.argv[1:])
