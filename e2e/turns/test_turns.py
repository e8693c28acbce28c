"""The example's contract as it is, with its journal as a Deployment: what is streamed is what is kept."""

import hashlib
from itertools import groupby

import pytest
from e2e.clients import Client
from e2e.clusters import Body, Cluster, until
from e2e.plugins import run
from e2e.tables import STREAM, Table, play_example, written

ALL = dict.fromkeys(("quest", "combat", "poi"), True)
ORDER = ["queued", "started", "token", "data outcome", *["data write"] * 4, "metrics", "end", "done"]


@pytest.fixture(scope="module")
def example(cluster: Cluster, client: Client, room: str) -> Table:
    return play_example(cluster, room)


def asked(session: str, **changes: object) -> Body:
    """Return a turn that is short, since two slow cores tell it."""
    inputs = {"session": session, "hero": "Mira", "place": "the old mill", "event": "two wolves attack her"}
    turn = {"contract": "dungeon-master", "inputs": inputs, "policy": ALL, "max_tokens": 24, "seed": 5}
    return turn | {"temperature": 0.4} | changes


def names_of(told: list[tuple[str, Body]]) -> list[str]:
    """Return the kinds of events in their order, without narration and what is measured on the way."""
    names = [f"data {event['action']}" if name == "data" else name for name, event in told if name != "narration"]
    last = len(names) - 1 - names[::-1].index("metrics")
    names = [name for at, name in enumerate(names) if name != "metrics" or at == last]
    return [name for name, group in groupby(names) for _ in (group if name.startswith("data") else [0])]


def test_a_turn_is_streamed_and_kept_byte_for_byte(example: Table) -> None:
    told = example.turn(**asked("streamed"), headers=STREAM).events()
    assert names_of(told) == ORDER
    assert "narration" in dict(told)
    text = "".join(event["t"] for name, event in told if name == "token")
    end = dict(told)["end"]
    assert end["text_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert [one["narrative"] for one in example.kept("narratives", "streamed")] == [text]
    outcome, kinds = end["outcome"]["intents"], {"quest": "quests", "combat": "combats", "poi": "pois"}
    for sink, status in written(end).items():
        is_new = sink == "narrative" or outcome[sink]["action"] == "create"
        assert status == ("written" if is_new else "skipped")
        assert len(example.kept(kinds.get(sink, "narratives"), "streamed")) == is_new


def test_a_turn_is_answered_whole_and_a_replay_of_it_writes_nothing_again(example: Table) -> None:
    turn = asked("whole", policy={"poi": True}, context={"sparks": {"count": 2}})
    first, again = (example.turn(**turn, headers={"Idempotency-Key": "whole-1"}) for _ in range(2))
    assert first.status == again.status == 200
    assert first.json() == again.json()
    assert written(first.json())["quest"] == "skipped"
    (kept,) = example.kept("narratives", "whole")
    assert kept["narrative"] == first.json()["outcome"]["narrative"]


def test_a_dry_run_calls_nobody(example: Table) -> None:
    answer = example.turn(**asked("dry", dry_run=True)).whole()
    assert answer["dry_run"] is True
    assert written(answer)["narrative"] == "dry_run"
    assert example.kept("narratives", "dry") == []


def test_a_turn_whose_client_leaves_is_completed_and_kept(example: Table) -> None:
    told = example.turn(**asked("left"), headers=STREAM, leave_at="event: token").events()
    assert "end" not in dict(told)
    job = told[0][1]["job_id"]
    view = until(lambda: _done(example.view(job)), "the turn is over", 90)
    assert written(view)["narrative"] == "written"
    assert [one["narrative"] for one in example.kept("narratives", "left")] == [view["outcome"]["narrative"]]


def _done(view: Body) -> Body | None:
    return view if view.get("writes") else None


def test_plain_questions_are_answered_beside(example: Table) -> None:
    done = run("ask", "dungeon-master", "-n", example.namespace, "--max-tokens", "5", "Sing")
    assert done.returncode == 0, done.stderr
    assert "Done: 5 tokens" in done.stderr


def test_a_journal_that_is_away_costs_the_writes_and_not_the_story(example: Table) -> None:
    scale = ("scale", "deploy/journal", "-n", example.namespace)
    example.cluster.kubectl(*scale, "--replicas=0")
    until(lambda: not _pods(example), "the journal is away")
    told = example.turn(**asked("away", context={"sparks": True}), headers=STREAM).events()
    end = dict(told)["end"]
    assert set(written(end).values()) <= {"failed", "skipped"}
    assert written(end)["narrative"] == "failed"
    human = [event["human"] for name, event in told if name == "narration"]
    assert [text for text in human if "sparks" in text], human
    example.cluster.kubectl(*scale, "--replicas=1")
    example.cluster.kubectl(
        "rollout", "status", "deploy/journal", "-n", example.namespace, "--timeout=120s", timeout=150
    )
    assert written(example.turn(**asked("back")).whole())["narrative"] == "written"


def _pods(table: Table) -> list[Body]:
    return table.cluster.all("pods", table.namespace, "app.kubernetes.io/name=journal")
