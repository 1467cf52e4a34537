"""Installs a client with its pinned packages, once for each set of pins. The server uses none of them."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
NODE = "22.23.3"
UV = [Path(sys.executable).with_name("uv"), "--no-python-downloads"]
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


def clients():
    """The clients of clients.toml, each with its version from the pins."""
    table = tomllib.loads((HERE / "clients.toml").read_text())
    return {name: {"id": name, "version": version(name, client), **client} for name, client in table.items()}


def pins(name, client):
    return HERE / "npm" / name / "package-lock.json" if "npm" in client else HERE / "pip" / f"{name}.txt"


def version(name, client):
    if "npm" in client:
        return json.loads(pins(name, client).read_text())["packages"][f"node_modules/{client['npm']}"]["version"]
    pinned = dict(line.split(";")[0].strip().split("==") for line in pins(name, client).read_text().splitlines() if "==" in line)
    return pinned[client["pip"]]


def install(client, tools):
    """Installs a client; returns the folders for its PATH, or None if no installed Python is new enough for it."""
    if "python" in client and subprocess.run([*UV, "python", "find", client["python"]], capture_output=True, check=False).returncode:
        return None
    folder = tools / client["id"]
    wanted = hashlib.sha256(pins(client["id"], client).read_bytes() + Path(__file__).read_bytes()).hexdigest()
    mark = folder / "pins"
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (npm if "npm" in client else pip)(client, folder, tools)
        mark.write_text(wanted)
    if "npm" not in client:
        return [folder / "bin"]
    node = [tools / "node" / "node_modules" / f"node-linux-{machine()}" / "bin"] if "node" in client else []
    return [folder / "node_modules/.bin", *node, Path(shutil.which("node")).parent]


def npm(client, folder, tools):
    quiet = ["--loglevel=error", "--no-audit", "--no-fund"]
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "npm" / client["id"] / name, folder)
    scripts = [] if client.get("install_script") else ["--ignore-scripts"]
    # `npm ci` would need the packages for all platforms in the lock, and not every registry has all of them.
    run = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["npm", "install", "--no-save", *quiet, *scripts], cwd=folder, **run)
    if "node" in client and not (tools / "node").exists():
        package = f"node-linux-{machine()}@{NODE}"
        subprocess.run(["npm", "install", *quiet, "--ignore-scripts", "--prefix", tools / "node", package], **run)


def pip(client, folder, tools):
    python = client.get("python", sys.executable)
    subprocess.run([*UV, "venv", "--quiet", "--allow-existing", "--python", python, folder], check=True)
    # A package may require a later patch release of Python than the installed one.
    version = ["--python-version", f"{python}.99"] if "python" in client else []
    pinned = pins(client["id"], client)
    subprocess.run([*UV, "pip", "sync", "--quiet", "--python", folder / "bin/python", *version, pinned], check=True)


def machine():
    return MACHINES[platform.machine()]
