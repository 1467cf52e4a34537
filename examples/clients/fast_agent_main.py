"""pip install fast-agent-mcp; python fast_agent_main.py "what the agent is to do", beside fastagent.config.yaml"""

import asyncio
import sys

from fast_agent import FastAgent

fast = FastAgent("MassGen", parse_cli_args=False)


@fast.agent(instruction="{{serverInstructions}}", servers=["massgen"], model="gpt-5-nano")
async def main(task):
    async with fast.run() as agent:
        print(await agent.send(task))


asyncio.run(main(sys.argv[1]))
