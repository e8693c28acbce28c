"""Sinks that are away, slow or wrong, and sinks that a turn cannot do without: order, what is told, never twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import names
from support.processes import DEADLINE_S, free_port, wait_until
from support.requests import assert_error
from support.turns import PATIENCE_S, Table, names_of, sitting


def three_sinks(url: str, **second: Any) -> list[dict[str, Any]]:
    """Return sinks a, b and c, of which the second is changed."""
    sinks = [{"name": name, "url": f"{url}/{name}", "timeoutSeconds": PATIENCE_S} for name in "abc"]
    return [sinks[0], sinks[1] | second, sinks[2]]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with sitting(sinks=three_sinks) as running, running.worker.breathing():
        yield running


@pytest.fixture(autouse=True)
def forget(table: Table) -> None:
    table.outside.calls.clear()
    table.outside.answers.clear()
    table.outside.held.clear()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "it answered 404"), (500, "it answered 500"), (302, "redirects are not followed"),
        (0, "cannot be reached: ServerDisconnectedError"),
    ],
)  # fmt: skip
def test_a_sink_that_fails_does_not_stop_the_later_ones(table: Table, status: int, reason: str) -> None:
    table.outside.answers["/b"] = (status, b"secret words")
    with table.ask() as stream:
        table.play()
        told = stream.rest()
    writes = told[-2].data["writes"]
    assert [one["status"] for one in writes] == ["written", "failed", "written"]
    assert writes[1]["reason"] == reason
    assert writes[1].get("http_status") == (status or None)
    assert table.outside.paths() == ["/a", "/b", "/c"], "each once, in the declared order"
    assert [one.data["payload"] for one in told if one.data.get("action") == "write"] == writes
    assert b"secret words" not in stream.raw
    assert not [line for line in table.relay.lines if "secret words" in line]


def test_a_slow_sink_is_left_after_its_time_and_not_called_again() -> None:
    with sitting(sinks=lambda url: three_sinks(url, timeoutSeconds=1)) as table:
        table.outside.hold("/b")
        with table.ask() as stream:
            table.play()
            writes = stream.rest()[-2].data["writes"]
    assert [one["status"] for one in writes] == ["written", "failed", "written"]
    assert writes[1]["reason"] == "no answer within 1 s"
    assert writes[1]["ms"] > 900
    assert table.outside.paths().count("/b") <= 1, "not at all, where the machine stood still for its second"


def test_a_huge_answer_is_not_read_and_is_an_answer_all_the_same(table: Table) -> None:
    table.outside.answers["/a"] = (200, b"x" * 5_000_000)
    with table.ask() as stream:
        table.play()
        assert stream.rest()[-2].data["writes"][0]["status"] == "written"


def test_what_became_of_sinks_is_counted_and_a_failure_is_logged(table: Table) -> None:
    written = 'rhapsode_sink_calls_total{sink="a",status="written"}'
    before, failed = table.relay.metric(written), table.relay.metric(written.replace('"a"', '"b"'))
    table.outside.answers["/b"] = (418, b"")
    with table.ask() as stream:
        table.play()
        job_id = stream.rest()[-1].data["job_id"]
    assert table.relay.metric(written) == before + 1
    assert table.relay.metric(written.replace('"a"', '"b"')) == failed
    [record] = wait_until(
        lambda: [r for r in list(table.relay.records) if (r["event"], r.get("job_id")) == ("sink_failed", job_id)],
        "it is logged",
    )
    assert record["fields"]["why"] == "it answered 418"


def test_an_idempotency_key_that_comes_again_is_the_same_turn_and_calls_no_sink_twice(table: Table) -> None:
    key = {"Idempotency-Key": "turn-1"}
    with table.ask(headers=key) as stream:
        table.play()
        first = stream.rest()
    with table.ask(headers=key) as stream:
        again = stream.rest()
    assert [one.data for one in again] == [one.data for one in first]
    answer = table.post(key)
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json()["outcome"] == first[-2].data["outcome"]
    assert table.outside.paths() == ["/a", "/b", "/c"]
    assert_error(table.post(key, dry_run=True), 422, "idempotency_key_reused")


def test_a_turn_that_failed_but_may_succeed_is_tried_again_under_its_key() -> None:
    key = {"Idempotency-Key": "turn-3"}
    with sitting(sinks=lambda url: three_sinks(url, required=True)) as table:
        table.outside.answers["/b"] = (503, b"")
        with table.ask(headers=key) as stream:
            table.play()
            assert stream.rest()[-2].data["error"]["code"] == "sink_required_failed"
        table.outside.answers["/b"] = (201, b"")
        with table.ask(headers=key) as stream:
            table.play()
            assert stream.rest()[-2].name == "end"
    assert table.outside.paths() == ["/a", "/b", "/a", "/b", "/c"]
    keys = [call.headers["idempotency-key"] for call in table.outside.calls]
    assert keys[:2] == keys[2:4], "so a sink that keeps keys writes nothing twice"


def test_sinks_see_one_key_for_all_turns_of_a_client_s_key(table: Table) -> None:
    """What was retried after a relay died is known to a sink that keeps keys."""
    with sitting(sinks=three_sinks) as other:
        for one in (table, other):
            with one.ask(headers={"Idempotency-Key": "turn-2"}) as stream:
                one.play()
                stream.rest()
        ours = [call.headers["idempotency-key"] for call in table.outside.calls]
        theirs = [call.headers["idempotency-key"] for call in other.outside.calls]
    assert ours == theirs
    assert len(set(ours)) == 3


# Required ones


def test_a_required_sink_that_fails_ends_the_turn_before_the_later_ones() -> None:
    with sitting(sinks=lambda url: three_sinks(url, required=True)) as table:
        table.outside.answers["/b"] = (503, b"")
        with table.ask() as stream:
            table.play()
            told = stream.rest()
        assert names_of(told)[-6:] == ["data outcome", "data write", "data write", "metrics", "error", "done"]
        error = told[-2].data
        assert (error["error"]["code"], error["retryable"]) == ("sink_required_failed", True)
        assert error["error"]["message"] == "sink b: it answered 503"
        assert table.outside.paths() == ["/a", "/b"]
        with ThreadPoolExecutor() as pool:
            answering = pool.submit(table.post)
            table.play()
            assert_error(answering.result(DEADLINE_S), 502, "sink_required_failed", retryable=True)


def test_a_sink_that_is_down_is_told_without_its_address() -> None:
    port = free_port()
    with sitting(sinks=[{"name": "gone", "url": f"http://127.0.0.1:{port}/x"}]) as table, table.ask() as stream:
        table.play()
        (write,) = stream.rest()[-2].data["writes"]
    assert (write["status"], write["reason"]) == ("failed", "cannot be reached: Connection refused")


def test_no_sink_is_called_when_the_time_for_writing_is_over() -> None:
    with sitting(sinks=three_sinks, limits={"writeSeconds": 1}) as table:
        table.outside.hold("/a")
        with table.ask() as stream:
            table.play()
            writes = stream.rest()[-2].data["writes"]
        assert [one["status"] for one in writes] == ["failed", "failed", "failed"]
        assert {one["reason"] for one in writes[1:]} == {"not called: the time for writing was over"}
        assert set(table.outside.paths()) <= {"/a"}


# Secrets


def test_a_secret_is_read_at_each_call_and_never_told(tmp_path: Path) -> None:
    header = {"header": "X-Api-Key", "prefix": "Key ", "secretRef": {"name": "journal", "key": "token"}}
    (tmp_path / "journal").mkdir()
    file = tmp_path / "journal/token"
    environ = {names.ENV_SECRETS: str(tmp_path)}
    with sitting(environ, sinks=lambda url: [three_sinks(url)[0] | {"secretHeader": header}]) as table:
        for secret, status in (("s3cret-one\n", "written"), ("s3cret-two", "written"), ("a\nb: c", "failed")):
            file.write_text(secret)
            with table.ask() as stream:
                table.play()
                (write,) = stream.rest()[-2].data["writes"]
            assert write["status"] == status
            assert b"s3cret" not in stream.raw
        assert [call.headers["x-api-key"] for call in table.outside.calls] == ["Key s3cret-one", "Key s3cret-two"]
        file.unlink()
        with table.ask() as stream:
            table.play()
            (write,) = stream.rest()[-2].data["writes"]
        assert write["reason"] == "secret journal/token cannot be read: No such file or directory"
        assert not [line for line in table.relay.lines if "s3cret" in line]
