"""All calls through the Python SDK: list the tools, run, wait, read pages, stop, and a refusal.

python loop.py SERVER TOOLS uses the `mcp` of that Python: 1.x uses protocol 2025-11-25, 2.x negotiates 2026-07-28.
SERVER is a JSON file with command, args and env; TOOLS is a JSON file with the expected tools. It never uses a network.
"""

import asyncio
import hashlib
import json
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import mcp
from mcp import StdioServerParameters

# Far above the server's longest wait of 50 s, for machines under load.
TIMEOUT_S = 240


async def watch(progress, total=None, message=None):
    """Receives progress. With a callback the SDK requests progress from the server."""


@asynccontextmanager
async def connected(server):
    """A function that calls a tool and one that lists the tools, with the API of 1.x or 2.x."""
    if hasattr(mcp, "Client"):
        async with mcp.Client(server, read_timeout_seconds=TIMEOUT_S) as client:
            assert client.protocol_version == "2026-07-28", client.protocol_version
            yield lambda name, args: client.call_tool(name, args, progress_callback=watch), client.list_tools
        return
    async with mcp.stdio_client(server) as (reader, writer):
        timeout = timedelta(seconds=TIMEOUT_S)
        async with mcp.ClientSession(reader, writer, read_timeout_seconds=timeout) as client:
            started = await client.initialize()
            assert started.protocolVersion == "2025-11-25", started
            yield lambda name, args: client.call_tool(name, args, progress_callback=watch), client.list_tools


async def call(ask, name, **args):
    """A call that must succeed. Its text and its structured content must be equal."""
    answer = (await ask(name, args)).model_dump(by_alias=True)
    text = answer["content"][0]["text"]
    assert not answer["isError"], f"{name}: {text}"
    assert json.loads(text) == answer["structuredContent"], text
    return answer["structuredContent"]


async def until(ask, run_id, since, state):
    """Waits like an agent, with the last cursor, until the run is in the wanted state."""
    while True:
        status = await call(ask, "check_status", run_id=run_id, wait_s=45, since=since)
        run = status["runs"][0]
        if run["state"] == state:
            return run
        assert run["state"] in ("queued", "starting", "running", "stopping"), run
        since = status["cursor"]


async def read_answer(ask, run_id):
    text, offset = "", 0
    while offset is not None:
        page = await call(ask, "read_result", run_id=run_id, offset=offset, limit=500)
        text += page["text"]
        offset = page.get("next_offset")
    assert len(text) == page["total_chars"]
    assert hashlib.sha256(text.encode()).hexdigest() == page["sha256"]
    return text


async def main(server_file, tools_file):
    server = StdioServerParameters(**json.loads(Path(server_file).read_text()))
    expected_tools = {tool["name"] for tool in json.loads(Path(tools_file).read_text())}
    async with connected(server) as (ask, list_tools):
        assert {tool.name for tool in (await list_tools()).tools} == expected_tools

        run = await call(ask, "run_massgen", question="What is 6*7?", massgen_config="@rehearsal/chars=1200")
        ended = await until(ask, run["run_id"], run["cursor"], "succeeded")
        assert ended["answer_chars"] == 1200, ended
        assert len(await read_answer(ask, run["run_id"])) == 1200

        endless = await call(ask, "run_massgen", question="Never answered.", massgen_config="@rehearsal/hang")
        await until(ask, endless["run_id"], endless["cursor"], "running")
        killed = await call(ask, "kill_run", run_id=endless["run_id"], grace_s=1, reason="enough seen")
        receipt = killed["receipts"][0]
        assert (receipt["state"], receipt["survivors"]) == ("killed", []), receipt

        refused = (await ask("read_result", {"run_id": "mg-00000000"})).model_dump(by_alias=True)
        assert refused["isError"] and refused["content"][0]["text"].startswith("unknown_run: "), refused


asyncio.run(main(*sys.argv[1:]))
