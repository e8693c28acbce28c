"""A person's screen: what the worker does for whoever asks under an id, from before they ask.

`python screen.py ID`; see docs/clients.md.
"""

import os
import sys

import httpx
from httpx_sse import connect_sse

worker = os.environ.get("RHAPSODE_URL", "http://localhost:8080")
url = f"{worker}/v1/correlations/{sys.argv[1]}/stream?channels=narration"
with httpx.Client(timeout=None) as client, connect_sse(client, "GET", url) as source:  # noqa: S113 (it waits for an agent)
    source.response.raise_for_status()
    print("Listening", flush=True)
    for event in source.iter_sse():
        if event.event == "narration":
            print("·", event.json()["human"], flush=True)
        if event.event in ("done", "error"):
            break
