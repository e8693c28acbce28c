"""One worker as it lives: what its pods narrate, its conditions, its Events. Called by `watching`.

Threads listen: to the resource, to Events, to the relay of each pod. One shows what they hear (`gathering`).
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rhapsode.errors import EXIT_TRY_LATER, CommandError
from rhapsode.kubectl.carrying import ForbiddenError, NotThereError
from rhapsode.kubectl.drawing import told
from rhapsode.kubectl.explaining import pods_of
from rhapsode.kubectl.facts import happening
from rhapsode.kubectl.gathering import Gathering
from rhapsode.kubectl.listing import word_of
from rhapsode.kubectl.reaching import EVENTS, WORKERS, Change, Cluster
from rhapsode.kubectl.transitions import Line, transitions
from rhapsode.painting import Painter, words_of
from rhapsode.watching import Watching
from rhapsode_contract import events, names
from rhapsode_contract.conditions import REASONS

JSON = Mapping[str, Any]
PAUSE_S = 2.0


class Gone(Exception):
    """Nobody listens to this pod any more."""


class Following:
    """Follows one worker."""

    def __init__(self, cluster: Cluster, name: str, painter: Painter, style: Any) -> None:
        self._cluster, self._name, self._painter, self._style = cluster, name, painter, style
        self._heard = Gathering()
        self._worker: JSON = {}
        self._ears: dict[str, object] = {}
        """Who listens to each pod. One of its name may come before the last one's listener has left."""
        self._deaf = False
        """Whether we may not listen to pods: then the operator's last sentence has to do."""
        self._cut = False

    def follow(self, *, until_ready: bool, timeout_s: float | None) -> int:
        """Show what happens until told to stop, or until it is ready; return the exit status."""
        self._cluster.worker(self._name)  # says in words what is wrong with the way there
        self._heard.start(self._watch_worker, "worker")
        self._heard.start(self._watch_events, "events")
        for _ in self._heard.shown(timeout_s, f"{self._name} is not ready" if until_ready else ""):
            word = word_of(self._worker) if self._worker else ""
            if until_ready and word:
                return int(word == "stalled")
        return 0

    # What threads hear

    def _watch_worker(self) -> None:
        path = f"{self._cluster.base(WORKERS)}/{names.PLURAL}"
        for change in self._cluster.follow(path, fieldSelector=f"metadata.name={self._name}"):
            self._heard.put(partial(self._see, change))

    def _watch_events(self) -> None:
        path = f"{self._cluster.base(EVENTS)}/events"
        try:
            for change in self._cluster.follow(path, from_now=True):
                self._heard.put(partial(self._happen, change))
        except ForbiddenError as exc:
            self._heard.put(partial(self._show, Line("warn", f"no Events: {exc}")))

    def _listen(self, pod: str, ear: object) -> None:
        """Listen to a pod's relay, and to whatever comes in its place before it is gone."""
        while self._ears.get(pod) is ear:
            try:
                with self._cluster.pod_relay(pod) as client:
                    Watching(client, _PodScreen(self, pod, ear), self._style, until_ready=False).watch()
            except Gone:
                return
            except ForbiddenError as exc:
                self._heard.put(partial(self._be_deaf, exc))
                return
            except CommandError as exc:
                if exc.status != EXIT_TRY_LATER and not isinstance(exc, NotThereError):
                    self._heard.put(partial(self._show, Line("error", f"cannot listen: {exc}", pod)))
                    return
            time.sleep(PAUSE_S)

    def hear(self, pod: str, ear: object, level: str, text: str) -> None:
        """Have a pod's sentence shown. Raises Gone when nobody follows the pod any more, or somebody else does."""
        if self._ears.get(pod) is not ear:
            raise Gone
        self._heard.put(partial(self._show, Line(level, text, pod)))

    # What one thread shows

    def _see(self, change: Change) -> None:
        if change.kind == "CUT":
            if not self._cut:
                self._show(Line("warn", f"{change.why}; connecting again"))
            self._cut = True
            return
        self._cut = False
        if change.kind == "DELETED" or not change.items:
            self._ears.clear()
            raise CommandError(f"{self._name} was deleted")
        before, self._worker = self._worker, change.items[0]
        for line in transitions(before, self._worker, deaf=self._deaf):
            self._show(line)
        self._join()

    def _join(self) -> None:
        """Listen to new pods; whoever listens to one that is gone notices by himself."""
        present = set(pods_of(self._worker))
        for pod in sorted(present - self._ears.keys()):
            ear = self._ears[pod] = object()
            if not self._deaf:
                self._heard.start(partial(self._listen, pod, ear), pod)
        for pod in sorted(self._ears.keys() - present):
            del self._ears[pod]
            self._show(Line("info", f"{pod} is gone"))

    def _happen(self, change: Change) -> None:
        for event in change.items:
            about = event.get("involvedObject") or {}
            # what the operator posts of transitions and load stages is here already, as conditions and narration
            ours = about.get("kind") == names.KIND and about.get("name") == self._name
            if change.kind not in ("ADDED", "MODIFIED") or not (ours or about.get("name") in self._ears):
                continue
            one = happening(event, datetime.now(UTC))
            if not (ours and (one.reason == "LoadStage" or one.reason in REASONS)):
                level = "warn" if one.type == "Warning" else "info"
                self._show(Line(level, f"Event {one.reason}: {told(one, self._name)}"))

    def _be_deaf(self, exc: ForbiddenError) -> None:
        if not self._deaf:
            self._show(Line("warn", f"cannot listen to the pods, so here is what the operator tells: {exc}"))
        self._deaf = True

    def _show(self, line: Line) -> None:
        several = len(self._ears) > 1 or int((self._worker.get("spec") or {}).get("replicas", 1)) > 1
        head = f"{line.pod}: " if line.pod and several else ""
        self._painter.line(head + line.text, actor=line.pod or self._name, level=line.level)


class _PodScreen:
    """Where a `Watching` shows what one pod says."""

    def __init__(self, following: Following, pod: str, ear: object) -> None:
        self._hear = partial(following.hear, pod, ear)
        self._cut = False

    def narrate(self, event: events.Narration, style: Any) -> None:
        self._cut = False
        self._hear(event.level, words_of(event, style))

    def load(self, event: events.Load) -> None:
        """The narration says the same in words."""

    def enter(self, event: events.State) -> None:
        """The narration says the same in words."""

    def note(self, text: str) -> None:
        if not self._cut:
            self._hear("warn", text)
        self._cut = True
