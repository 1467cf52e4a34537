"""An alternative that takes an hour to build: a FastMCP server whose tools return the output of MassGen's own
BackgroundShellManager and status.json. benches/massgen compares it with the real server. fastmcp is in MassGen's environment."""

import json
import os
import shlex
from pathlib import Path

from fastmcp import FastMCP
from massgen.filesystem_manager import background_shell as shells

server = FastMCP("massgen")


@server.tool
def run_massgen(question: str, config: str) -> dict:
    """Start a MassGen run in the background. Returns its run_id."""
    words = [os.environ["MASSGEN"], "--automation", "--no-parse-at-references", "--config", config, "--", question]
    return {"run_id": shells.start_shell(shlex.join(words))}


def status_file(run_id: str) -> Path | None:
    printed = shells.get_shell_output(run_id)["stdout"].splitlines()
    named = [line.removeprefix("STATUS: ") for line in printed if line.startswith("STATUS: ")]
    return Path(named[0]) if named and Path(named[0]).exists() else None


@server.tool
def check_status(run_id: str) -> dict:
    """Whether the process of a run goes on, and MassGen's status.json of it."""
    file = status_file(run_id)
    return {"process": shells.get_shell_status(run_id), "status": json.loads(file.read_text()) if file else None}


@server.tool
def read_result(run_id: str) -> dict:
    """The final answer of a run that has ended, and the agent that gave it."""
    file = status_file(run_id)
    winner = json.loads(file.read_text())["results"]["winner"]
    return {"winner": winner, "answer": (file.parent / "final" / winner / "answer.txt").read_text()}


@server.tool
def kill_run(run_id: str) -> dict:
    """Stop a run."""
    return shells.kill_shell(run_id)


if __name__ == "__main__":
    server.run(show_banner=False)
