"""The environment of one client: a home folder, a project, the server in PATH, and a check for remaining processes."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import agent_loop

TIMEOUT_S = 240
# Quotes, backslashes and characters of all UTF-8 lengths, because clients escape them in different ways.
ALPHABET = 'plain words, "quoted" ones, a back\\slash, é, 漢, 😀; '


class World:
    """Created for one client, and removed together with all its processes."""

    def __init__(self, programs, massgen, chars):
        self.programs = programs
        self.root = Path(tempfile.mkdtemp(prefix="massgen-client-"))
        self.home, self.project, self.bin = self.root / "home", self.root / "project", self.root / "bin"
        for folder in (self.home, self.project, self.bin):
            folder.mkdir()
        subprocess.run(["git", "init", "--quiet", self.project], check=True)
        (self.bin / "massgen-mcp").symlink_to(programs.server)
        answer = (ALPHABET * (chars // len(ALPHABET) + 1))[: chars - 1] + "."
        (self.root / "long-answer").write_text(f"final agent_a {answer}\n")
        settings = {"massgen": str(massgen), "home": str(self.root / "state"), "starts_per_minute": 1000}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        self.write(".config/massgen-mcp/massgen-mcp.toml", "".join(lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([self.programs.server, "--home", self.root / "state", "warm", "--stop"], capture_output=True, check=False)
        for pid in self.processes():
            end(pid)
        shutil.rmtree(self.root, ignore_errors=True)

    def write(self, path, text):
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        (self.home / path).write_text(text)

    def environment(self, path, more):
        """The variables that a login shell would give the client, without those of this process."""
        variables = {"HOME": str(self.home), "LANG": "C.UTF-8", "TERM": "xterm", "SHELL": "/bin/sh", "OPENAI_API_KEY": "test-key"}
        paths = [str(self.bin), *map(str, path), "/usr/local/bin", "/usr/bin", "/bin"]
        return {**variables, "PATH": ":".join(paths), **more}

    def processes(self):
        """Every process with this folder in its environment: the client and all processes that it started, orphans too."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.root).encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found[int(folder.name)] = " ".join(words).strip()
            except OSError:
                pass  # It has ended meanwhile.
        return {pid: command for pid, command in found.items() if command}

    def servers(self):
        """The servers that a client started. Supervisors and warm processes are the same program with a subcommand."""
        started = {pid: command.split(" ") for pid, command in self.processes().items()}
        is_server = lambda words: words[0].endswith("massgen-mcp") and (len(words) == 1 or words[1] == "--project")
        return [pid for pid, words in started.items() if is_server(words)]

    def left(self, expected=None):
        """Processes that remain after the warm process has stopped, except those that the client leaves on purpose."""
        subprocess.run([self.programs.server, "--home", self.root / "state", "warm", "--stop"], capture_output=True, check=False)
        wait_until(lambda: not self.unexpected(expected), 20)
        return self.unexpected(expected)

    def unexpected(self, expected):
        hub = {pid for pid, command in self.processes().items() if expected and expected in command}
        return {pid: command for pid, command in self.processes().items() if pid not in hub and parent(pid) not in hub}

    def ask(self, *arguments):
        """The output of a command of massgen-mcp on the runs of this environment."""
        command = [self.programs.server, "--home", self.root / "state", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment([], {})).stdout

    def session(self):
        """The server's own output, without a client: tools, instructions and refusals."""
        calls = [agent_loop.NO_CONFIG, agent_loop.NO_RUN]
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        lines = [
            {"id": 0, "method": "initialize", "params": about},
            {"method": "notifications/initialized"},
            {"id": 1, "method": "tools/list"},
        ]
        for number, call in enumerate(calls, 2):
            lines.append({"id": number, "method": "tools/call", "params": {"name": call.tool, "arguments": call.args}})
        text = "".join(json.dumps({"jsonrpc": "2.0", **line}) + "\n" for line in lines)
        command = [self.programs.server, "--project", self.project]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=self.environment([], {}))
        answers = {answer["id"]: answer["result"] for answer in map(json.loads, done.stdout.splitlines()) if "id" in answer}
        return Truth(
            answers[0]["instructions"],
            {tool["name"]: tool for tool in answers[1]["tools"]},
            [answers[number]["content"][0]["text"] for number in (2, 3)],
        )


class Truth:
    """The server's own output, to compare with what a model is shown."""

    def __init__(self, instructions, tools, refusals):
        self.instructions, self.tools, self.refusals = instructions, tools, refusals


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    except OSError:
        return 0


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_until(condition, seconds):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)
    return condition()
