"""pip install openai-agents; python openai_agents.py "what the agent is to do" """

import asyncio
import os
import sys

from agents import Agent, Runner
from agents.mcp import MCPServerStdio


async def main(task):
    async with MCPServerStdio(
        params={
            "command": "massgen-mcp",
            "args": ["--project", "/path/to/project"],
            "env": {"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]},
        },
        # Seconds for a call. The default is 5, and a wait for a run takes up to 50.
        client_session_timeout_seconds=60,
    ) as massgen:
        agent = Agent(name="Assistant", model="gpt-5-nano", mcp_servers=[massgen])
        result = await Runner.run(agent, task, max_turns=50)
        print(result.final_output)


asyncio.run(main(sys.argv[1]))
