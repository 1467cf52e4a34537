#!/usr/bin/env python3
"""Drives real clients with a scripted model through all calls, and compares what the model was shown with the server's own output.

drive.py --server FILE --massgen FILE --stand-in FILE --tools FOLDER [--all | CLIENT ...]

Needs the pinned `uv` next to its Python, and npm. With --all, it drives every client with the real MassGen and writes the table in
docs/clients.md from the results.
"""

import argparse
import concurrent.futures
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import agent_loop
import install
import shown
from scripted_model import Model
from world import TIMEOUT_S, World, end, parent, wait_until

SOURCES = Path(__file__).parents[2]
SNIPPETS = SOURCES / "examples/clients"


@dataclass
class Outcome:
    """The result of a client in one setting: the failed steps with their reasons, and what its model was shown."""

    client: dict
    setting: str
    seconds: float = 0.0
    failed: dict = field(default_factory=dict)
    shown: dict = field(default_factory=dict)

    def __str__(self):
        result = "passed" if not self.failed else "fails, as documented, at " if expects_failure(self) else "FAILED at "
        result += ", ".join(self.failed)
        return f"{self.client['name']} {self.client['version']}, {self.setting}: {result} ({self.seconds:.1f} s)"


class Driver:
    """Drives one client in one setting, in its own environment."""

    def __init__(self, client, setting, programs, real):
        self.client, self.setting, self.programs = client, setting, programs
        self.massgen = programs.massgen if real else programs.stand_in
        self.chars = 90_000 if programs.all else 30_000
        self.checks = agent_loop.Checks()

    def drive(self):
        with World(self.programs, self.massgen, self.chars) as world:
            self.world = world
            try:
                return self.killed() if self.setting == "killed" else self.run_all_calls()
            except (OSError, subprocess.SubprocessError) as error:
                return Outcome(self.client, self.setting, failed={"run": str(error)})

    def run_all_calls(self):
        """All calls, until the client ends by itself."""
        truth = self.world.session()
        # With its default settings such a client times out in its first wait, and must not time out again.
        pause_s = self.client.get("gives_up_s", 0) * (2 if self.setting == "default" else 1)
        pause = f"sleep {pause_s + 2}\n" if pause_s else ""
        script_question = f"#!fake\nannounce\n{pause}do {self.world.root}/long-answer"
        script = agent_loop.all_calls(self.checks, script_question, self.chars, truth.refusals)
        with Model(script, sends_all=self.setting == "strict") as model:
            started = time.monotonic()
            client = self.start(model.url)
            try:
                client.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.checks.hold("end", False, f"the client was still there after {TIMEOUT_S} s")
                self.end_client(client)
            seconds = time.monotonic() - started
            self.checks.hold("loop", model.is_over, self.diagnosis(client))
            self.checks.hold("end", client.returncode == 0, self.diagnosis(client))
        left = self.world.left(self.client.get("leaves"))
        self.checks.hold("end", not left, f"these processes were left: {left}")
        self.keep_log(model)
        return Outcome(self.client, self.setting, seconds, self.checks.failed(), shown.what(model, truth, self.checks))

    def killed(self):
        """Kills the client while its model waits for a run: the server must end and the run must continue."""
        script = agent_loop.wait_without_end(self.checks)
        with Model(script) as model:
            started = time.monotonic()
            client = self.start(model.url)
            waits = wait_until(lambda: len(model.replies) > 1 or client.poll() is not None, TIMEOUT_S)
            is_waiting = waits and self.checks.run_id and client.poll() is None
            self.checks.hold("start", is_waiting, self.diagnosis(client))
            if is_waiting:
                self.check_after_kill(client)
        left = self.world.left(self.client.get("leaves"))
        self.checks.hold("end", not left, f"these processes were left: {left}")
        self.keep_log(model)
        return Outcome(self.client, self.setting, time.monotonic() - started, self.checks.failed())

    def check_after_kill(self, client):
        wait_until(lambda: self.state() == "running", 60)
        self.end_client(client)
        gone = wait_until(lambda: not self.world.servers(), 20)
        self.checks.hold("server ends", gone or self.client.get("leaves"), f"{self.world.processes()}")
        self.checks.hold("run goes on", self.state() == "running", self.state())
        self.world.ask("kill", self.checks.run_id, "--grace-s", "1")
        self.checks.hold("kill", self.state() == "killed", self.state())

    def state(self):
        return agent_loop.value_of(self.world.ask("status", self.checks.run_id, "--json"), "state")

    def start(self, url):
        """Configures the client with its snippet and starts it, with standard output and error in a file."""
        known = {"${URL}": url, "${HOME}": str(self.world.home)}
        more = {name: filled(value, known) for name, value in self.client.get("env", {}).items()}
        environment = self.world.environment(self.client["path"], more)
        self.world.write(self.client["place"], self.config(known))
        if "program" in self.client:
            self.world.write(self.client["program"], (SNIPPETS / self.client["program"]).read_text())
        self.log = self.world.root / "client.log"
        with self.log.open("wb") as log:
            run = {"cwd": self.world.project, "env": environment, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            for command in self.client.get("setup", []):
                subprocess.run([filled(word, known) for word in command], check=True, timeout=TIMEOUT_S, **run)
            command = self.client["run"]
            if self.setting == "default":
                command = self.client.get("default_run", command)
            return subprocess.Popen([filled(word, known) for word in command], start_new_session=True, **run)

    def config(self, known):
        """The snippet as a user would fill it in, with the settings that point the client at the model."""
        snippet = (SNIPPETS / self.client["snippet"]).read_text().replace("/path/to/project", str(self.world.project))
        for old, new in self.client.get(self.setting, []):
            if old not in snippet:
                raise ValueError(f"{self.client['snippet']} has no {old!r}")
            snippet = snippet.replace(old, new)
        model = filled(self.client.get("model", ""), known)
        if self.client["place"].endswith(".json"):
            return json.dumps(json.loads(model) | json.loads(snippet))
        return model + snippet

    def end_client(self, client):
        """Kills the client and its processes, except the server and the server's processes."""
        servers = set(self.world.servers())
        pids, known = [client.pid], {}
        for pid in self.world.processes():
            known.setdefault(parent(pid), []).append(pid)
        for pid in pids:
            pids += [child for child in known.get(pid, []) if child not in servers]
        for pid in pids:
            end(pid)
        client.wait()

    def diagnosis(self, client):
        text = self.log.read_text(errors="replace")
        return f"exit code {client.poll()}, {text[-1500:]}"

    def keep_log(self, model):
        """Keeps the client's output and the model's requests for the diagnosis of a failure."""
        logs = self.programs.tools / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        name = f"{self.client['id']}-{self.setting}"
        (logs / f"{name}.txt").write_bytes(self.log.read_bytes())
        with (logs / f"{name}.jsonl").open("w") as file:
            for request in model.requests:
                file.write(json.dumps(request.body) + "\n")


def filled(text, known):
    for name, value in known.items():
        text = text.replace(name, value)
    return text


def settings(client, everything):
    """The settings to drive a client in, each with whether it uses the real MassGen."""
    real = everything or client.get("real", False)
    yield "documented", real
    if "default" in client or "default_run" in client:
        yield "default", everything
    if "strict" in client:
        yield "strict", False
    yield "killed", False


def main():
    parser = argparse.ArgumentParser()
    for name in ("server", "massgen", "stand-in", "tools"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--setting", action="append")
    parser.add_argument("clients", nargs="*")
    programs = parser.parse_args()
    known = install.clients()
    named = programs.clients or [name for name, client in known.items() if programs.all or client.get("ci")]
    chosen = [known[name] for name in named]
    for client in chosen:
        started = time.monotonic()
        client["path"] = install.install(client, programs.tools)
        if client["path"] is None:
            print(f"\n!! {client['name']}: SKIPPED: it needs Python {client['python']}\n", file=sys.stderr)
            continue
        print(f"{client['name']} {client['version']}: installed ({time.monotonic() - started:.1f} s)", flush=True)

    drivers = [
        Driver(client, setting, programs, real)
        for client in chosen
        if client["path"]
        for setting, real in settings(client, programs.all)
        if not programs.setting or setting in programs.setting
    ]
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for outcome in pool.map(Driver.drive, drivers):
            outcomes.append(outcome)
            print(outcome, *(f"    {about}: {text}" for about, text in (outcome.shown | outcome.failed).items()), sep="\n", flush=True)
    if programs.all:
        shown.write_table(SOURCES / "docs/clients.md", outcomes)
    wrong = [outcome for outcome in outcomes if bool(outcome.failed) != expects_failure(outcome)]
    for outcome in wrong:
        print(f"not as expected: {outcome}", file=sys.stderr)
    sys.exit(bool(wrong))


def expects_failure(outcome):
    """Whether a failure is expected: some clients refuse the calls by default; `refuses_by_default` says why."""
    return outcome.setting == "default" and "refuses_by_default" in outcome.client


if __name__ == "__main__":
    main()
