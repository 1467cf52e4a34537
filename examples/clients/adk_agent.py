"""pip install "google-adk[mcp]"; python adk_agent.py "what the agent is to do" """

import asyncio
import os
import sys

from google.adk.agents import Agent
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from mcp import StdioServerParameters


async def main(task):
    server = StdioServerParameters(
        command="massgen-mcp",
        args=["--project", "/path/to/project"],
        env={"GEMINI_API_KEY": os.environ["GEMINI_API_KEY"]},
    )
    # Seconds for a call. The default is 5, and a wait for a run takes up to 50.
    massgen = McpToolset(connection_params=StdioConnectionParams(server_params=server, timeout=60))
    agent = Agent(name="assistant", model="gemini-2.5-flash", tools=[massgen])
    async with InMemoryRunner(agent=agent) as runner:
        await runner.run_debug(task)


asyncio.run(main(sys.argv[1]))
