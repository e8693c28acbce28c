"""An agent that asks a worker through a gateway. It gives the id by which a person's screen listens.

`python agent.py ID QUESTION`; see docs/clients.md.
"""

import os
import sys

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

correlation_id, question = sys.argv[1:]
model = ChatOpenAI(
    model="sim",
    base_url=os.environ.get("GATEWAY_URL", "http://localhost:4000") + "/v1",
    api_key=os.environ["LITELLM_MASTER_KEY"],
    max_tokens=24,
    default_headers={"X-Correlation-Id": correlation_id},
)
for chunk, _ in create_agent(model, tools=[]).stream({"messages": [("user", question)]}, stream_mode="messages"):
    sys.stdout.write(chunk.content)
    sys.stdout.flush()
