"""Keeps MassGen imported in one process and forks each run from it. This saves the seconds of an import and most of its memory.

MassGen's own interpreter executes this program as `python -u warm.py NAME PROGRAM IDLE_S` in a private folder, with its lock file as
standard input. It listens on the Unix socket NAME.sock in that folder and exits after IDLE_S seconds without a request, after one day, or
when its lock file is removed (by `massgen-mcp warm --stop`, or with the state folder).

For each request it forks a keeper. The keeper is a child subreaper and forks MassGen's process, the leader. Over the connection of the
request it reports its own pid, the leader's pid and the leader's exit to the run's supervisor. It exits when no process remains below it.
The supervisor sends all signals to the run, with one exception: if the supervisor dies, the keeper ends all processes below it.
This program never writes into a run's folder, and only processes of the same user can connect to it.

A request with `ask` instead of `argv` is a query: a process of its own executes the program, writes the answer to the outputs and exits.

A run gets exactly the environment that its supervisor sends, plus the changes that its own interpreter would make at startup. This program
records what the import reads from the environment. If the import would have read other values with a run's environment, it refuses the run
(`cold`, with the reason), and the run needs a cold start.
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

# Variables that differ from run to run and do not affect the import.
RUN_SPECIFIC = {"PATH", "MASSGEN_LOG_BASE_DIR"}
OWN_PREFIX = "MASSGEN_MCP_"
# Variables that are read by iterating over the whole environment, or by C libraries, which do not use `os.environ`.
READ_INDIRECTLY = re.compile(
    r"(?i:.*_proxy)|(FASTMCP|DOCKET|TQDM|GIT|LD|OPENSSL|SSL|MALLOC|OMP|OPENBLAS|MKL|OTEL)_.*|PYTHON.*|TZ"
)
# Variables that the interpreter reads at startup. The resulting state is compared, not the variables.
READ_AT_STARTUP = re.compile(r"LC_.*|LANG|LANGUAGE|PYTHON.*")
# Modules that iterate over the whole environment. READ_INDIRECTLY has the variables that they use. dotenv reads variables only to set
# them, and the files that gettext finds are compared (`ImportRecorder.find_recorded`).
ITERATING_MODULES = ("dotenv", "pydantic_settings", "tqdm", "git.", "urllib", "subprocess", "gettext")
# Lists the variables of the first run that this process did not get, such as keys.
WITHHELD_VARIABLE = "MASSGEN_MCP_WITHHELD"
# How often an idle process checks that its lock file exists, in seconds.
LOCK_CHECK_S = 5
# The maximum age of a process, in seconds: files that the import has read, such as price lists, may be out of date then.
MAX_AGE_S = 86400
# A process that answers a query is ended after this time, in seconds.
QUERY_TIMEOUT_S = 60
# The supervisor's commands.
FORK_COMMAND, RELEASE_COMMAND = b"g", b"d"
RUN_BIN_FOLDER = re.compile(r"/runs/mg-[a-z0-9]+/bin/?$")

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
libc = ctypes.CDLL(None, use_errno=True)


def prctl(option, value):
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


# ---- Interpreter startup ----

# Sets `state`: the variables that the interpreter itself has set (PEP 538 sets LC_CTYPE), and its text encodings.
STARTUP_PROBE = """
import locale, os, sys
with open("/proc/self/environ", "rb") as environ:
    given = dict(entry.split(b"=", 1) for entry in environ.read().split(b"\\0") if b"=" in entry)
state = {
    "set": {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items() if given.get(name) != value},
    "encodings": [sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding(False).lower(),
                  *(stream.encoding for stream in (sys.stdin, sys.stdout, sys.stderr))],
    "of_locale": locale.nl_langinfo(locale.CODESET).lower(),
    "errors": [stream.errors for stream in (sys.stdin, sys.stdout, sys.stderr)],
}
"""


class InterpreterStartup:
    """The state of this interpreter after its startup, and its state after a startup with another environment."""

    def __init__(self):
        names = {}
        exec(STARTUP_PROBE, names)
        self.state = names["state"]
        given = {os.fsdecode(name): os.fsdecode(value) for name, value in names["given"].items()}
        self.given = variables_read_at_startup(given)

    def startup_with(self, environment):
        """The state of the interpreter after a startup with this environment. An interpreter is started, which takes about 20 ms, only if
        the variables that it reads at startup differ."""
        if variables_read_at_startup(environment) == self.given:
            return self.state
        command = [sys.executable, "-S", "-c", f"{STARTUP_PROBE}\nimport json\nprint(json.dumps(state))"]
        result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        return json.loads(result.stdout)

    def encodes_like(self, state):
        """Whether this process, after it has adopted the locale, has the text encodings of `state`. In UTF-8 mode (PEP 540), files are
        read as UTF-8 in any locale."""
        files = "utf-8" if sys.flags.utf8_mode else state["of_locale"]
        return state["encodings"] == self.state["encodings"] and files == state["encodings"][2]


def variables_read_at_startup(environment):
    return {name: value for name, value in environment.items() if READ_AT_STARTUP.fullmatch(name)}


def adopt_locale(errors):
    """Sets the locale and error handlers that the run's own interpreter would set at startup; runs may differ in them."""
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        locale.setlocale(locale.LC_CTYPE, "C")  # The interpreter does the same if a locale is not installed.
    for stream, handler in zip((sys.stdin, sys.stdout, sys.stderr), errors):
        stream.reconfigure(errors=handler)


# ---- Recording of the import ----


class ImportRecorder:
    """Records which variables the import reads and changes, and which .env files it loads.

    `withheld` are the names of variables that the first run has and this process does not. `record_refusal` is called with the first of
    them that the import reads: that run cannot use the import."""

    def __init__(self, start, withheld, record_refusal):
        self.interpreter, self.withheld, self.record_refusal = start, withheld, record_refusal
        self.folder = os.getcwd()
        self.environment_before = dict(os.environ)
        self.read = {}
        self.translations = []
        self.written = set()
        self.iterated_by = set()
        self.loaded = []

    def __enter__(self):
        import dotenv

        original = os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__
        self.original, self.load_dotenv, self.original_find = original, dotenv.load_dotenv, gettext.find

        def getitem(environment, name):
            if isinstance(name, str) and name not in self.written and not calling_module().startswith(ITERATING_MODULES):
                value = environment._data.get(os.fsencode(name))
                self.read.setdefault(name, value)
                if value is None and name in self.withheld:
                    self.record_refusal(name)
            return original[0](environment, name)

        def setitem(environment, name, value):
            if not calling_module().startswith("dotenv"):
                self.written.add(name)
            original[1](environment, name, value)

        def walk(environment):
            self.iterated_by.add(calling_module())
            return original[2](environment)

        os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__ = getitem, setitem, walk
        dotenv.load_dotenv = dotenv.main.load_dotenv = self.load_dotenv_recorded
        gettext.find = self.find_recorded
        return self

    def __exit__(self, *_):
        import dotenv

        os._Environ.__getitem__, os._Environ.__setitem__, os._Environ.__iter__ = self.original
        dotenv.load_dotenv = dotenv.main.load_dotenv = self.load_dotenv
        gettext.find = self.original_find
        self.written = {name: os.environ[name] for name in self.written if name in os.environ}
        self.environment_after = dict(os.environ)
        known = all(module.startswith(ITERATING_MODULES) for module in self.iterated_by)
        self.indirectly_read = READ_INDIRECTLY if known else re.compile(".*")

    def load_dotenv_recorded(self, dotenv_path=None, *rest, **options):
        calling_file = sys._getframe(1).f_code.co_filename
        self.loaded.append((dotenv_path, calling_file, rest, options))
        path = dotenv_path or find_dotenv(calling_file)
        return self.load_dotenv(path, *rest, **options) if path else False

    def find_recorded(self, *arguments, **options):
        found = self.original_find(*arguments, **options)
        self.translations.append((arguments, options, found))
        return found

    def adopt_environment(self, environment, folder):
        """Sets the environment and folder of this process to the values after an import with these.

        Returns why such an import could have had another result (None if it could not), and the error handlers of the streams."""
        state = self.interpreter.startup_with(environment)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        os.environ.update(state["set"])
        for path, calling_file, rest, options in self.loaded:
            full_path = os.path.join(self.folder, path) if path else find_dotenv(calling_file)
            if path and os.path.commonpath([self.folder, full_path]) == self.folder:
                full_path = os.path.join(folder, os.path.relpath(full_path, self.folder))
            if full_path:
                self.load_dotenv(full_path, *rest, **options)
        difference = self.difference(state)
        os.environ.update(self.written)
        return difference, state["errors"]

    def difference(self, state):
        variable = self.changed_variable()
        if variable:
            return f"{variable} is not what it was when MassGen was imported"
        if not self.interpreter.encodes_like(state):
            return "its locale has another encoding than that with which MassGen was imported"
        if any(self.original_find(*arguments, **options) != found for arguments, options, found in self.translations):
            return "its language has other translations than that with which MassGen was imported"
        return None

    def changed_variable(self):
        own = os.environ
        for name, value in sorted(self.read.items()):
            if not is_run_specific(name) and os.environb.get(os.fsencode(name)) != value:
                return name
        for name in sorted({*self.environment_after, *own} - {*self.written}):
            if self.indirectly_read.fullmatch(name) and not is_run_specific(name) and self.environment_after.get(name) != own.get(name):
                return name
        return None if path_without_runs(self.environment_before) == path_without_runs(own) else "PATH"


def is_run_specific(name):
    return name in RUN_SPECIFIC or name.startswith(OWN_PREFIX)


def calling_module():
    """The module that reads the environment, without the modules that every read passes through."""
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__") in ("os", "collections.abc", __name__):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "?") if frame else "?"


def find_dotenv(calling_file):
    """The .env file that dotenv finds if the caller names none: in the folder of the calling file, or in the nearest folder above."""
    folder = os.path.dirname(os.path.abspath(calling_file))
    while not os.path.isfile(os.path.join(folder, ".env")):
        if folder == os.path.dirname(folder):
            return ""
        folder = os.path.dirname(folder)
    return os.path.join(folder, ".env")


def path_without_runs(environment):
    """PATH without its first folder, which is the program's, and without the folders of parent runs."""
    return [folder for folder in environment.get("PATH", "").split(":")[1:] if not RUN_BIN_FOLDER.search(folder)]


# ---- One run ----


def receive(connection):
    header, fds, _, _ = socket.recv_fds(connection, 4, 2)
    length = struct.unpack("!I", header)[0]
    text = b""
    while len(text) < length and (part := connection.recv(length - len(text))):
        text += part
    return json.loads(text), fds


def send(connection, **what):
    connection.sendall(json.dumps(what).encode() + b"\n")


def run_keeper(connection, recorder, code):
    """Handles one request: answers it, or forks MassGen's process and reaps all processes below."""
    prctl(PR_SET_NAME, b"massgen-keeper")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, outputs = receive(connection)
    difference, errors = recorder.adopt_environment(request["env"], request["cwd"])
    if "ask" in request:
        # MassGen's verdict on a config does not depend on the environment of the import.
        send(connection, asks=True)
        signal.alarm(QUERY_TIMEOUT_S)
        execute_program(request["ask"], outputs, code, errors)
    if difference:
        return send(connection, cold=difference)
    if "argv" not in request:
        return send(connection, fits=True)
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.umask(request["umask"])
    # A server below identifies its run by this open file; the record of that run names this process.
    lock = os.open(request["lock"], os.O_RDONLY)
    keeper = os.getpid()
    send(connection, keeper=keeper)
    # A supervisor that timed out, or that could not record the keeper, closes the connection without this command.
    if connection.recv(1) != FORK_COMMAND:
        return
    leader = os.fork()
    if leader == 0:
        connection.close()
        os.close(lock)
        run_leader(request["argv"], outputs, keeper, code, errors)
    for output in outputs:
        os.close(output)
    os.chdir("/")
    wakeup_pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stop_requested = threading.Event()
    signal.set_wakeup_fd(wakeup_pipe[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    # The start time is read before the process can be reaped, so it identifies the process even if its pid is reused later.
    send(connection, leader=leader, start_ticks=start_ticks(leader))
    supervise_children(connection, leader, wakeup_pipe[0], stop_requested)


def supervise_children(connection, leader, wakeup_fd, stop_requested):
    """Reaps the processes below until none remains. If the supervisor dies, ends them."""
    ended = False
    while True:
        statuses, left = reap()
        if leader in statuses and not ended:
            ended = True
            status = statuses[leader]
            try:
                send(connection, exit=exit_report(status), left=left)
            except OSError:
                stop_requested.set()
        if not left:
            return
        if stop_requested.is_set():
            return terminate_children()
        ready, _, _ = select.select([connection, wakeup_fd], [], [])
        if wakeup_fd in ready:
            os.read(wakeup_fd, 4096)
        if connection in ready:
            if connection.recv(1) == RELEASE_COMMAND:
                return
            stop_requested.set()


def start_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def reap():
    """The exit statuses of the processes that have ended, and whether any process remains."""
    statuses = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return statuses, False
        if pid == 0:
            return statuses, True
        statuses[pid] = status


def exit_report(status):
    return {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}


def terminate_children():
    """Sends SIGTERM to the children and, after two seconds, SIGKILL. This process adopts the children of a child that ends, so it is enough
    to signal its children. A child's pid cannot be reused before this process reaps it, so no other process is signalled."""
    for child in children():
        os.kill(child, signal.SIGTERM)
    pause, deadline = 0.01, time.monotonic() + 2
    while reap()[1]:
        if time.monotonic() > deadline:
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
            pass  # It ended during the scan.


def run_leader(argv, outputs, keeper, code, errors):
    """Turns this process into MassGen's process. Does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(127)
    except BaseException:
        exit_with_traceback()
    execute_program(argv, outputs, code, errors)


def execute_program(argv, outputs, code, errors):
    """Runs the program with these arguments and outputs. Does not return."""
    try:
        for descriptor, output in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(output, descriptor)
            os.close(output)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
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
        os._exit(run_script(code, main.__dict__))
    except BaseException:
        exit_with_traceback()


def exit_with_traceback():
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(127)


def run_script(code, names):
    """Runs a script as the interpreter would and returns its exit code. Its memory is not cleaned up, since that takes seconds."""
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
        # Remove the frame of this program from the traceback.
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
    """Resets signals that the launcher blocked or ignored, so that no run inherits that. Python itself ignores two signals."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def main(name, program, idle_s):
    reset_signals()
    os.setsid()
    prctl(PR_SET_NAME, b"massgen-warm")
    withheld = set(os.environ.pop(WITHHELD_VARIABLE, "").split(":"))
    # A held lock shows that this process is alive. It is inherited as standard input, so it was held before this process started.
    lock_fd, null_fd = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.close(null_fd)
    # Standard output and error are pipes until here, so Python has set up its streams as for a run.
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    is_wanted = lock_file_checker(lock_fd, os.path.abspath(f"{name}.lock"))
    sys.path[0] = os.path.dirname(os.path.realpath(program))
    sys.argv = [program]
    with open(program) as script:
        code = compile(script.read(), program, "exec")
    exit_when_unwanted(is_wanted)
    with ImportRecorder(InterpreterStartup(), withheld, lambda variable: record_refusal(name, variable)) as recorder:
        # Under a name other than __main__ the script only imports.
        exec(code, {"__name__": "__warm__", "__file__": program})
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if threading.active_count() != 1:
        sys.exit("the import has started threads, and a process with threads cannot be forked")
    gc.collect()
    gc.freeze()
    serve(name, lock_fd, float(idle_s), recorder, code, is_wanted)
    # All output is flushed, and the kernel frees the memory.
    os._exit(0)


def lock_file_checker(lock_fd, path):
    """Returns a function: whether the lock file still exists. `warm --stop` removes it; it is also removed with the state folder."""
    own = os.fstat(lock_fd)

    def is_unchanged():
        try:
            return os.path.samestat(os.stat(path), own)
        except OSError:
            return False

    return is_unchanged


def exit_when_unwanted(is_wanted):
    """Ends this process during its import if its lock file is removed. It checks once a second."""
    signal.signal(signal.SIGALRM, lambda *_: is_wanted() or os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, 1, 1)


def record_refusal(name, variable):
    """Records that runs with this variable need a cold start, and exits, so that a waiting run does not wait for the rest of the import."""
    with open(f"{name}.new", "w") as file:
        file.write(variable)
    os.rename(f"{name}.new", f"{name}.cold")
    os._exit(0)


def serve(name, lock_fd, idle_s, recorder, code, is_wanted):
    # The kernel reaps the keepers; no process needs their exit status.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    listener.bind(f"{name}.new")
    os.umask(umask)
    listener.listen(64)
    os.rename(f"{name}.new", f"{name}.sock")
    now = time.monotonic()
    last, idle_at = now + MAX_AGE_S, now + idle_s
    while is_wanted() and now < min(last, idle_at):
        listener.settimeout(min(LOCK_CHECK_S, idle_s))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            connection = None
        now = time.monotonic()
        if connection and is_wanted():
            idle_at = now + idle_s
            fork_keeper(listener, lock_fd, connection, recorder, code)
        if connection:
            connection.close()
    if is_wanted():
        os.unlink(f"{name}.sock")


def fork_keeper(listener, lock_fd, connection, recorder, code):
    if os.fork() != 0:
        return
    listener.close()
    os.close(lock_fd)
    connection.settimeout(None)
    try:
        run_keeper(connection, recorder, code)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
