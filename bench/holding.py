"""What a relay costs while little moves, and how soon it says what it must: memory, narration, clients that left."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import peers
from bench.client import REQUEST
from bench.manifests import write_manifest
from bench.plans import Plan
from bench.running import feeding, start_client
from rhapsode_contract import frames
from rhapsode_contract.frames import encode_frame
from rhapsode_contract.resources import EngineSpec

FROZEN_S = 60


def memory() -> tuple[float, float]:
    """Return MiB of an idle relay, and of one with 1,000 readers whose streams run."""
    plan = Plan(1000, 200, 20)
    with peers.relay() as peer:
        time.sleep(2)
        idle = peer.rss_mib()
        with feeding(peer, plan):
            client = start_client(peer, plan)
            time.sleep(8)
            busy = peer.rss_mib()
            client.communicate()
    return idle, busy


def frozen() -> list[float]:
    """Return MiB, every five seconds of a minute, while one reader takes nothing of 15,000 tokens a second."""
    plan = Plan(1, 15_000 * FROZEN_S, 150, 100)
    with peers.relay("continue") as peer, feeding(peer, plan):
        reader = socket.create_connection(("127.0.0.1", int(peer.address)))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(REQUEST)
        seen = []
        for _ in range(FROZEN_S // 5):
            time.sleep(5)
            seen.append(peer.rss_mib())
        reader.close()
    return seen


def narration(times: int = 500) -> tuple[float, float]:
    """Return median and 99th percentile of ms from a worker's line to a reader of the worker's stream."""
    with peers.relay() as peer:
        worker = socket.socket(socket.AF_UNIX)
        worker.connect(peer.source)
        worker.sendall(encode_frame(frames.Hello(proto=1, boot_id="b", engine="Bench", model="sim")))
        reader = socket.create_connection(("127.0.0.1", int(peer.address)))
        reader.sendall(b"GET /v1/worker/stream HTTP/1.1\r\nHost: b\r\n\r\n")
        time.sleep(0.5)
        reader.recv(1 << 20)
        taken = []
        for number in range(times):
            at = time.perf_counter()
            worker.sendall(encode_frame(frames.Narration(human=f"number {number} of the bench", action="bench")))
            heard = b""
            while b"number %d of" % number not in heard:
                heard += reader.recv(1 << 16)
            taken.append((time.perf_counter() - at) * 1000)
            time.sleep(0.01)
    taken.sort()
    return statistics.median(taken), taken[len(taken) * 99 // 100]


def gone(times: int = 50) -> tuple[float, float]:
    """Return median and worst of ms from a client's leaving to the worker being told to cancel."""
    taken = []
    with peers.relay("cancel") as peer, feeding(peer, Plan(1, 10**9, 50)) as source:
        assert source.stdout is not None
        for _ in range(times):
            client = socket.create_connection(("127.0.0.1", int(peer.address)))
            client.sendall(REQUEST)
            while b"event: started" not in client.recv(1 << 16):
                pass
            time.sleep(0.02)
            left = time.perf_counter_ns()
            client.close()
            taken.append((int(source.stdout.readline().split()[1]) - left) / 1e6)
    taken.sort()
    return statistics.median(taken), taken[-1]


def first_words(times: int = 5) -> float:
    """Return the median of seconds from the start of a worker's process to its first narration."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        manifest = write_manifest(folder, "sim", EngineSpec(name="Simulator"))
        environ = {"RHAPSODE_MANIFEST": str(manifest), "RHAPSODE_SOCKET": str(folder / "w.sock")}
        return statistics.median(_first_word(environ) for _ in range(times))


def _first_word(environ: dict[str, str]) -> float:
    command = [sys.executable, "-m", "rhapsode_worker"]
    began = time.perf_counter()
    worker = subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    seconds = time.perf_counter() - began
    worker.kill()
    worker.communicate()
    return seconds
