"""pip install "pydantic-ai-slim[openai,mcp]"; python pydantic_agent.py "what the agent is to do" """

import asyncio
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset


async def main(task):
    keys = {"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
    server = StdioTransport("massgen-mcp", ["--project", "/path/to/project"], env=keys)
    # The second refusal of a tool in a row ends the agent unless max_retries allows more.
    massgen = MCPToolset(server, include_instructions=True, max_retries=5)
    agent = Agent("openai:gpt-5-nano", toolsets=[massgen])
    async with agent:
        result = await agent.run(task)
        print(result.output)


asyncio.run(main(sys.argv[1]))
