"""`kubectl rhapsode watch NAME` when a pod goes and one of its name comes: nothing is told twice."""

import io
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any, cast

import httpx
import msgspec
import pytest

from rhapsode.errors import CommandError
from rhapsode.kubectl.following import Following
from rhapsode.kubectl.reaching import WORKERS, Change, Cluster
from rhapsode.painting import Painter
from rhapsode.streaming import RelayClient
from rhapsode_contract import events
from support.processes import DEADLINE_S, wait_until

NOBODY, POD = Change("MODIFIED", [{"metadata": {"name": "sim"}}]), "sim-0"
LISTENED = Change("MODIFIED", [{"metadata": {"name": "sim"}, "status": {"workers": [{"pod": POD}]}}])


class Story(httpx.SyncByteStream):
    """What a pod says: a sentence; when who listens has taken it, it breaks off, or is silent."""

    def __init__(self, words: str, silent: threading.Event | None = None) -> None:
        self._words, self._silent = words, silent
        self.taken = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        told = events.Narration(seq=1, ts="", actor="engine", action="say", human=self._words, level="info")
        try:
            yield b"data: " + msgspec.json.encode(told) + b"\n\n"
        finally:  # whether it goes on or hangs up
            self.taken.set()
        if self._silent is not None:
            self._silent.wait(DEADLINE_S)


class Scene:
    """A cluster with one worker: its changes come when a test says so, and its pod has a story for each who asks."""

    namespace = "music"

    def __init__(self) -> None:
        self.changes: Queue[Change] = Queue()
        self.stories: list[Story] = []
        self.refused = 0

    def worker(self, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}}

    def base(self, group: str) -> str:
        return group

    def follow(self, path: str, **_: Any) -> Iterator[Change]:
        while path.startswith(WORKERS):
            yield self.changes.get()

    def pod_relay(self, pod: str) -> RelayClient:
        return RelayClient(pod, base_url="http://there", transport=httpx.MockTransport(self._answer))

    def _answer(self, _: httpx.Request) -> httpx.Response:
        if not self.stories:
            self.refused += 1
            raise httpx.ConnectError("nobody")
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=self.stories.pop())


def test_a_pod_that_comes_before_its_forerunners_listener_has_left_is_heard_once() -> None:
    scene, out, over = Scene(), io.StringIO(), threading.Event()
    following = Following(cast("Cluster", scene), "sim", Painter("human", out, color=False), "human")

    def follow() -> None:
        with pytest.raises(CommandError, match="sim was deleted"):
            following.follow(until_ready=False, timeout_s=None)

    watch = threading.Thread(target=follow)
    watch.start()
    scene.stories = [Story("The first")]
    scene.changes.put(LISTENED)
    wait_until(lambda: scene.refused, "the listener tries again")
    second = [Story("The second", over), Story("The second", over)]
    for change in (NOBODY, LISTENED):
        scene.changes.put(change)
    wait_until(lambda: f"{POD} is gone" in out.getvalue(), "the pod is gone, and there again")
    scene.stories = [*second]
    assert all(story.taken.wait(DEADLINE_S) for story in second), "both listeners come"
    over.set()
    scene.changes.put(Change("DELETED", []))
    watch.join(DEADLINE_S)
    told = out.getvalue()
    assert (told.count("The first"), told.count("The second")) == (1, 1)
