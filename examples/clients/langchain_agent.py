"""pip install langchain langchain-openai langchain-mcp-adapters; python langchain_agent.py "what the agent is to do" """

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools


async def main(task):
    client = MultiServerMCPClient(
        {
            "massgen": {
                "transport": "stdio",
                "command": "massgen-mcp",
                "args": ["--project", "/path/to/project"],
                "env": {"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]},
            }
        }
    )
    # One server for the whole conversation. `await client.get_tools()` starts one for each call.
    async with client.session("massgen") as session:
        agent = create_agent("openai:gpt-5-nano", await load_mcp_tools(session))
        state = await agent.ainvoke({"messages": task}, {"recursion_limit": 200})
        print(state["messages"][-1].content)


asyncio.run(main(sys.argv[1]))
