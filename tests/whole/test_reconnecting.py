"""Readers whose connection is cut at random, ten thousand times: no byte is lost and none is doubled."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from rhapsode_worker.engines.simulating import simulated_text
from support.processes import Play, manifest, playing
from support.streams import Event, Stream, ask, resume

CUTS = 5_000
"""Of each kind of stream; there are two."""
READERS = 6
TOKENS = 800


@dataclass
class Reader:
    """A client that resumes. It trusts the ids and nothing else: a doubled or missing event shows in `seqs`."""

    port: int
    rng: random.Random
    text: str = ""
    seqs: list[int] = field(default_factory=list)
    cuts: int = 0
    last_id: str = ""
    end: Event | None = None

    def read(self, prompt: str, seed: int) -> None:
        stream: Stream | None = ask(self.port, prompt, seed=seed, max_tokens=TOKENS)
        while stream is not None:
            job_id = stream.headers["x-job-id"]
            self._read_for_a_while(stream)
            stream.close(hard=self.rng.random() < 0.5)
            stream = None if self.last_name == "done" else self._come_back(job_id)

    def _read_for_a_while(self, stream: Stream) -> None:
        """Read some events, then leave, be it in the middle of one."""
        patience = self.rng.choice([0, 1, 2, 5, 30, 100])
        for event in stream.events():
            self._take(event)
            patience -= 1
            if patience < 0:
                break

    def _come_back(self, job_id: str) -> Stream:
        self.cuts += 1
        chunk = self.rng.choice([50, 500, 65536])
        if self.rng.random() < 0.3:
            return resume(self.port, job_id, query=f"?after={self.seqs[-1]}" if self.seqs else "", chunk=chunk)
        return resume(self.port, job_id, self.last_id, chunk=chunk)

    def _take(self, event: Event) -> None:
        self.last_name = event.name
        if event.name == "replay":
            return
        assert event.name != "snapshot", "a valid, recent cursor never gets a snapshot"
        self.last_id = event.id
        self.seqs.append(event.data["seq"])
        if event.name == "token":
            self.text += event.data["t"]
        if event.name == "end":
            self.end = event


def read_with_cuts(port: int, number: int, cuts: int) -> int:
    """Read stream after stream until there were that many cuts; check each; return the cuts."""
    rng, done = random.Random(number), 0
    while done < cuts:
        prompt, seed = f"reader {number}, after {done} cuts", rng.randrange(2**32)
        reader = Reader(port, rng)
        reader.read(prompt, seed)
        assert reader.text == simulated_text(seed, prompt, TOKENS)
        assert reader.seqs == list(range(1, len(reader.seqs) + 1))
        assert reader.end is not None
        assert hashlib.sha256(reader.text.encode()).hexdigest() == reader.end.data["text_sha256"]
        done += reader.cuts
    return done


def cut_all(port: int) -> int:
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(lambda number: read_with_cuts(port, number, CUTS // READERS + 1), range(READERS)))


def test_five_thousand_cuts_of_streams_that_are_complete(fast_play: Play) -> None:
    assert cut_all(fast_play.port) >= CUTS


def test_five_thousand_cuts_of_streams_that_are_being_made() -> None:
    resource = manifest(engine={"options": {"tokensPerSecond": 1500}}, onDisconnect="grace", graceSeconds=120)
    with playing(resource) as play:
        play.wait_ready()
        assert cut_all(play.port) >= CUTS


@pytest.mark.parametrize("engine", [{"tokensPerSecond": 300}, {"tokensPerSecond": 300, "splitUtf8": True}])
def test_jobs_that_run_together_never_mix(engine: dict[str, object]) -> None:
    """Sixteen at once on four slots, every reader checks every byte."""
    resource = manifest(engine={"maxSequences": 4, "options": engine})
    with playing(resource) as play:
        play.wait_ready()

        def read(number: int) -> tuple[set[str], str]:
            with ask(play.port, f"job {number}", seed=number, max_tokens=150) as stream:
                events = stream.rest()
            assert events[-2].name == "end"
            return {event.data["job_id"] for event in events}, "".join(
                event.data["t"] for event in events if event.name == "token"
            )

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(read, range(16)))
    ids = [job_ids for job_ids, _ in answers]
    assert all(len(job_ids) == 1 for job_ids in ids)
    assert len(set[str]().union(*ids)) == 16
    if "splitUtf8" not in engine:
        assert [text for _, text in answers] == [simulated_text(n, f"job {n}", 150) for n in range(16)]
    else:
        assert all(simulated_text(n, f"job {n}", 150).startswith(text) for n, (_, text) in enumerate(answers))
        assert all("�" not in text for _, text in answers)
