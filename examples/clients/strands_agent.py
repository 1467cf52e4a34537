"""pip install "strands-agents[openai]"; python strands_agent.py "what the agent is to do" """

import os
import sys

from mcp import StdioServerParameters, stdio_client
from strands import Agent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient

server = StdioServerParameters(
    command="massgen-mcp",
    args=["--project", "/path/to/project"],
    env={"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]},
)
with MCPClient(lambda: stdio_client(server)) as massgen:
    agent = Agent(model=OpenAIModel(model_id="gpt-5-nano"), tools=massgen.list_tools_sync())
    agent(sys.argv[1])
