"""MassGen kept warm: imports it once and forks each run from there, which saves the seconds of imports and the memory of all but one.

It is run by MassGen's own interpreter, as `python -u warm.py NAME PROGRAM IDLE_S` in a private folder, with its lock as standard
input, and listens there on the Unix socket NAME.sock until nobody has asked for IDLE_S seconds, a day has passed, or the socket is taken
away. For each request it forks a keeper, which is a child subreaper and forks MassGen's process, the leader; it tells the run's
supervisor, over the same connection, who they are and how the leader ended, and it goes when nothing is left below it. When the
supervisor is gone, the keeper ends all that is below it. The supervisor sends every signal; this program sends none but in that case. It never writes into a
run's folder, and it answers nobody but its own user. A request with `ask` in place of `argv` is a question: the program answers it on the
outputs, in a process of its own that ends with that.

A run gets exactly the environment that its supervisor names, with what its own interpreter would change in it at start. What the
import read of the environment is remembered, and a run for which that would have been another is refused (`cold`, with the reason):
it has to be started in the usual way.

The process ends when its lock file is no longer there: `massgen-mcp warm --stop` removed it, or the state folder is gone.
"""

import atexit
import ctypes
import gc
import gettext
import json
import locale
import os
import re
import select
import signal
import socket
import struct
import subprocess
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
    r"(?i:.*_proxy)|(FASTMCP|DOCKET|TQDM|GIT|LD|OPENSSL|SSL|MALLOC|OMP|OPENBLAS|MKL|OTEL)_.*|PYTHON.*|TZ"
)
# What the interpreter reads at its start. What it made of that is compared, not the variables.
READ_AT_START = re.compile(r"LC_.*|LANG|LANGUAGE|PYTHON.*")
# Modules that walk over the whole environment, and what they look for there is in ALSO_READ; dotenv asks only in order to set, and
# what gettext finds is compared (`Watched.find`).
WALKERS = ("dotenv", "pydantic_settings", "tqdm", "git.", "urllib", "subprocess", "gettext")
# Names of variables of the run that began this process which were kept from it, such as keys.
WITHHELD = "MASSGEN_MCP_WITHHELD"
# How often an idle process looks whether its lock file is there, in seconds.
LOOK = 5
# After so many seconds it goes: files that the import read, such as lists of prices, may have been written anew.
A_DAY = 86400
# A process that answers a question about a config ends after so many seconds, whoever asked.
MOST_ASKED = 60
# What the supervisor says.
GO, DONE = b"g", b"d"
RUNS_OWN = re.compile(r"/runs/mg-[a-z0-9]+/bin/?$")

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
libc = ctypes.CDLL(None, use_errno=True)


def prctl(option, value):
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


# ---- What the interpreter does at its start ----

# Gives `seen`: the variables that the interpreter has set by itself (PEP 538 sets LC_CTYPE), and how it encodes texts.
SEE = """
import locale, os, sys
with open("/proc/self/environ", "rb") as environ:
    given = dict(entry.split(b"=", 1) for entry in environ.read().split(b"\\0") if b"=" in entry)
seen = {
    "set": {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items() if given.get(name) != value},
    "encodings": [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding(False).lower(),
                  *(stream.encoding for stream in (sys.stdin, sys.stdout, sys.stderr))],
    "of_locale": locale.nl_langinfo(locale.CODESET).lower(),
    "errors": [stream.errors for stream in (sys.stdin, sys.stdout, sys.stderr)],
}
"""


class Start:
    """This interpreter's start, and what another start of it would come to."""

    def __init__(self):
        names = {}
        exec(SEE, names)
        self.seen = names["seen"]
        given = {os.fsdecode(name): os.fsdecode(value) for name, value in names["given"].items()}
        self.given = read_at_start(given)

    def with_environment(self, environment):
        """What the interpreter would see at its start with this environment. It is asked only where the environment differs in what
        it reads then, which takes some 20 ms."""
        if read_at_start(environment) == self.given:
            return self.seen
        ask = [sys.executable, "-S", "-c", f"{SEE}\nimport json\nprint(json.dumps(seen))"]
        asked = subprocess.run(ask, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        return json.loads(asked.stdout)

    def encodes_like(self, seen):
        """Whether this process encodes texts as that other start would, once it has adopted its locale. Where the UTF-8 mode is on
        (PEP 540), files are read as UTF-8 in any locale."""
        files = "utf-8" if sys.flags.utf8_mode else seen["of_locale"]
        return seen["encodings"] == self.seen["encodings"] and files == seen["encodings"][2]


def read_at_start(environment):
    return {name: value for name, value in environment.items() if READ_AT_START.fullmatch(name)}


def adopt_locale(errors):
    """Makes of this process what the run's own interpreter makes of itself at its start, as far as runs may differ in it."""
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        locale.setlocale(locale.LC_CTYPE, "C")  # As the interpreter has it where a locale is not installed.
    for stream, way in zip((sys.stdin, sys.stdout, sys.stderr), errors):
        stream.reconfigure(errors=way)


# ---- The import, watched ----


class Watched:
    """What the import asks of the environment, what it changes there, and which .env files it loads.

    `withheld` are names of variables that the first run has and this process does not; `refuse` is called with the first of them that
    the import asks for, since the import is of no use to that run then."""

    def __init__(self, start, withheld, refuse):
        self.interpreter, self.withheld, self.refuse = start, withheld, refuse
        self.folder = os.getcwd()
        self.start = dict(os.environ)
        self.read = {}
        self.catalogues = []
        self.written = set()
        self.walked_by = set()
        self.loaded = []

    def __enter__(self):
        import dotenv

        usual = os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__
        self.usual, self.load_dotenv, self.usual_find = usual, dotenv.load_dotenv, gettext.find

        def getitem(environment, name):
            if isinstance(name, str) and name not in self.written and not who_asks().startswith(WALKERS):
                value = environment._data.get(os.fsencode(name))
                self.read.setdefault(name, value)
                if value is None and name in self.withheld:
                    self.refuse(name)
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
        gettext.find = self.find
        return self

    def __exit__(self, *_):
        import dotenv

        os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__ = self.usual
        dotenv.load_dotenv = dotenv.main.load_dotenv = self.load_dotenv
        gettext.find = self.usual_find
        self.written = {name: os.environ[name] for name in self.written if name in os.environ}
        self.end = dict(os.environ)
        known = all(module.startswith(WALKERS) for module in self.walked_by)
        self.also_read = ALSO_READ if known else re.compile(".*")

    def load(self, dotenv_path=None, *rest, **options):
        asker = sys._getframe(1).f_code.co_filename
        self.loaded.append((dotenv_path, asker, rest, options))
        path = dotenv_path or found_above(asker)
        return self.load_dotenv(path, *rest, **options) if path else False

    def find(self, *asked, **named):
        found = self.usual_find(*asked, **named)
        self.catalogues.append((asked, named, found))
        return found

    def imported_with(self, environment, folder):
        """Makes this process's environment and folder what they would be after an import with these.

        Gives why that import could have gone another way, None where it could not, and how streams treat what they cannot encode."""
        seen = self.interpreter.with_environment(environment)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        os.environ.update(seen["set"])
        for path, asker, rest, options in self.loaded:
            whole = os.path.join(self.folder, path) if path else found_above(asker)
            if path and os.path.commonpath([self.folder, whole]) == self.folder:
                whole = os.path.join(folder, os.path.relpath(whole, self.folder))
            if whole:
                self.load_dotenv(whole, *rest, **options)
        differs = self.differs(seen)
        os.environ.update(self.written)
        return differs, seen["errors"]

    def differs(self, seen):
        variable = self.other_variable()
        if variable:
            return f"{variable} is not what it was when MassGen was imported"
        if not self.interpreter.encodes_like(seen):
            return "its locale has another encoding than that with which MassGen was imported"
        if any(self.usual_find(*asked, **named) != found for asked, named, found in self.catalogues):
            return "its language has other translations than that with which MassGen was imported"
        return None

    def other_variable(self):
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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, outputs = receive(connection)
    differs, errors = watched.imported_with(request["env"], request["cwd"])
    if "ask" in request:
        # What MassGen says of a config does not depend on the environment of its import.
        say(connection, asks=True)
        signal.alarm(MOST_ASKED)
        become(request["ask"], outputs, code, errors)
    if differs:
        return say(connection, cold=differs)
    if "argv" not in request:
        return say(connection, fits=True)
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.umask(request["umask"])
    # Held open, it tells a server below which run it belongs to; that run's record names this process.
    lock = os.open(request["lock"], os.O_RDONLY)
    keeper = os.getpid()
    say(connection, keeper=keeper)
    # A supervisor that has given up waiting, or that could not put the keeper on record, starts nothing here.
    if connection.recv(1) != GO:
        return
    leader = os.fork()
    if leader == 0:
        connection.close()
        os.close(lock)
        lead(request["argv"], outputs, keeper, code, errors)
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


def lead(argv, outputs, keeper, code, errors):
    """Becomes MassGen's process, and does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(127)
    except BaseException:
        failed()
    become(argv, outputs, code, errors)


def become(argv, outputs, code, errors):
    """Runs the program with these arguments and outputs, and does not return."""
    try:
        for number, output in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(output, number)
            os.close(output)
        for usual in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(usual, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_NAME, b"massgen")
        adopt_locale(errors)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        sys.argv = argv
        main = types.ModuleType("__main__")
        main.__file__ = argv[0]
        sys.modules["__main__"] = main
        os._exit(call(code, main.__dict__))
    except BaseException:
        failed()


def failed():
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
    withheld = set(os.environ.pop(WITHHELD, "").split(":"))
    # The lock that says that this process lives: it came as standard input, so that it was held before.
    turn, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Standard output and error were pipes while Python made its streams of them, as those of runs are.
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    is_wanted = lock_is_there(turn, os.path.abspath(f"{name}.lock"))
    sys.path[0] = os.path.dirname(os.path.realpath(program))
    sys.argv = [program]
    with open(program) as script:
        code = compile(script.read(), program, "exec")
    end_unless(is_wanted)
    with Watched(Start(), withheld, lambda variable: refuse(name, variable)) as watched:
        # Under another name than __main__ the script imports and does nothing more.
        exec(code, {"__name__": "__warm__", "__file__": program})
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if threading.active_count() != 1:
        sys.exit("the import has started threads, and a process with threads cannot be forked")
    gc.collect()
    gc.freeze()
    serve(name, turn, float(idle_s), watched, code, is_wanted)
    # Nothing is left to be flushed, and the memory is cleaned up by the kernel.
    os._exit(0)


def lock_is_there(turn, path):
    """Whether the lock's file is where it was; what `warm --stop` removes, and what goes with the state folder."""
    own = os.fstat(turn)

    def is_there():
        try:
            return os.path.samestat(os.stat(path), own)
        except OSError:
            return False

    return is_there


def end_unless(is_wanted):
    """Ends this process in the middle of its import once it is not wanted any more: it looks once a second."""
    signal.signal(signal.SIGALRM, lambda *_: is_wanted() or os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, 1, 1)


def refuse(name, variable):
    """Leaves word that runs with this variable have to be started cold, and ends: the run that waits need not wait for the rest."""
    with open(f"{name}.new", "w") as file:
        file.write(variable)
    os.rename(f"{name}.new", f"{name}.cold")
    os._exit(0)


def serve(name, turn, idle_s, watched, code, is_wanted):
    # The kernel reaps the keepers; nobody has to hear of their end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    usual = os.umask(0o177)
    listener.bind(f"{name}.new")
    os.umask(usual)
    listener.listen(64)
    os.rename(f"{name}.new", f"{name}.sock")
    now = time.monotonic()
    last, idle_at = now + A_DAY, now + idle_s
    while is_wanted() and now < min(last, idle_at):
        listener.settimeout(min(LOOK, idle_s))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            connection = None
        now = time.monotonic()
        if connection and is_wanted():
            idle_at = now + idle_s
            fork_keeper(listener, turn, connection, watched, code)
        if connection:
            connection.close()
    if is_wanted():
        os.unlink(f"{name}.sock")


def fork_keeper(listener, turn, connection, watched, code):
    if os.fork() != 0:
        return
    listener.close()
    os.close(turn)
    connection.settimeout(None)
    try:
        keep(connection, watched, code)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
