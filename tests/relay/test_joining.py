"""A screen that follows a correlation id hears the jobs of all replicas in one stream, each event whole."""

import httpx
import pytest

from rhapsode_contract import frames, names
from rhapsode_relay.calling import Broken
from rhapsode_relay.joining import MAX_EVENT_BYTES, EventCutter
from support.processes import wait_until
from support.replicas import Replica, replicas, worker_of
from support.streams import Event, Stream, ask, text_of

IDS = {"X-Correlation-Id": "turn-7"}
PATH = "/v1/correlations/turn-7/stream"


def heard_by(replica: Replica, readers: int) -> None:
    wait_until(lambda: replica.relay.metric("rhapsode_relay_readers") >= readers, f"{replica.name} is heard")


def events_of(events: list[Event], job_id: str) -> list[bytes]:
    return [event.raw.replace(b": hb\n", b"") for event in events if event.data["job_id"] == job_id]


def test_a_screen_hears_the_jobs_of_all_replicas() -> None:
    with replicas(3, heartbeatSeconds=5) as three, Stream(three[0].port, PATH) as screen:
        for one in three:
            heard_by(one, 1)
        jobs, whole = [], {}
        streams = [ask(one.port, one.name, headers=IDS) for one in three]
        for one, stream in zip(three, streams, strict=True):
            jobs.append(worker_of(one).begin())
            stream.next("started")
        for i in range(0, 300, 10):
            for one, job in zip(three, jobs, strict=True):
                worker_of(one).speak(job, *(f"{one.name}:{i + k} " for k in range(10)), start=i)
        for one, job, stream in zip(three, jobs, streams, strict=True):
            worker_of(one).finish(job, 300)
            stream.rest()
            stream.close()
            whole[job.job_id] = stream.raw.replace(b": hb\n", b"")
        events: list[Event] = []
        while sum(event.name == "done" for event in events) < 3:
            events += screen.until("done")
        for job_id, raw in whole.items():
            assert b"".join(events_of(events, job_id)).removeprefix(b"retry: 2000\n") == raw.removeprefix(
                b"retry: 2000\n"
            ), "byte for byte, no event twice, none cut"
        assert screen.raw.count(b"retry:") == 1


def test_a_screen_hears_one_heartbeat_however_many_replicas_there_are() -> None:
    with replicas(3, heartbeatSeconds=1) as three, Stream(three[0].port, PATH) as screen:
        for one in three:
            heard_by(one, 1)
        while screen.raw.count(b": hb\n") < 4:
            screen.read_some()
        first = ask(three[1].port, headers=IDS)
        worker_of(three[1]).serve("a")
        events = screen.until("done")
        assert text_of(events) == "a"
        assert b": hb\n\n" not in screen.raw
        assert all(
            block.lstrip().startswith((b"id:", b"retry:"))
            for block in (e.raw.replace(b": hb\n", b"") for e in events)
        )
        first.close()


def test_a_screen_leaves_all_replicas_at_once() -> None:
    with replicas(2) as two:
        screen = Stream(two[0].port, PATH)
        heard_by(two[1], 1)
        screen.close(hard=True)
        for one in two:
            wait_until(lambda one=one: one.relay.metric("rhapsode_relay_readers") == 0, "nobody listens")  # type: ignore[misc]


def test_a_replica_that_is_killed_is_heard_again_when_it_is_back() -> None:
    with replicas(3) as three, Stream(three[0].port, PATH) as screen:
        heard_by(three[2], 1)
        with ask(three[2].port, headers=IDS) as before:
            worker_of(three[2]).serve("a")
            before.rest()
        assert text_of(screen.until("done")) == "a"
        three[2].die()
        with ask(three[1].port, headers=IDS) as meanwhile:
            worker_of(three[1]).serve("b")
            meanwhile.rest()
        assert text_of(screen.until("done")) == "b"
        three[2].return_()
        three[2].come()
        heard_by(three[2], 1)
        with ask(three[2].port, headers=IDS) as after:
            worker_of(three[2]).serve("c")
            after.rest()
        assert text_of(screen.until("done")) == "c"


def test_a_replica_that_comes_late_is_heard_from_its_first_event() -> None:
    with replicas(2) as two:
        two[1].die()
        with Stream(two[0].port, PATH) as screen:
            two[1].return_()
            two[1].come()
            with ask(two[1].port, headers=IDS) as agent:
                worker_of(two[1]).serve("a", "b")
                own = agent.rest()
            assert [event.id for event in screen.until("done")] == [event.id for event in own]


def test_a_screen_that_comes_back_elsewhere_goes_on_in_its_job() -> None:
    with replicas(2) as two, ask(two[0].port, headers=IDS), ask(two[1].port, headers=IDS):
        jobs = [worker_of(one).begin() for one in two]
        with Stream(two[0].port, PATH) as screen:
            worker_of(two[1]).speak(jobs[1], "a")
            cursor = screen.next("token").id
        worker_of(two[1]).speak(jobs[1], "b", start=1)
        worker_of(two[0]).speak(jobs[0], "x")
        with Stream(two[0].port, PATH, headers={"Last-Event-ID": cursor}) as screen:
            worker_of(two[1]).finish(jobs[1], 2)
            events = screen.until("done")
            worker_of(two[0]).finish(jobs[0], 1)
            events += screen.until("done")
    mine = [event for event in events if event.data["job_id"] == jobs[1].job_id]
    other = [event for event in events if event.data["job_id"] == jobs[0].job_id]
    assert (mine[0].name, text_of(mine)) == ("replay", "b")
    assert (other[0].name, other[0].data["reason"], text_of(other)) == ("snapshot", "joined", "x")


def test_channels_hold_for_all_replicas() -> None:
    with replicas(2) as two, Stream(two[0].port, f"{PATH}?channels=narration") as screen:
        heard_by(two[1], 1)
        with ask(two[1].port, headers=IDS) as agent:
            worker_of(two[1]).serve("a")
            agent.rest()
        assert "token" not in {event.name for event in screen.until("done")}


def test_a_replica_asks_nobody_on_behalf_of_another() -> None:
    with replicas(2) as two, Stream(two[0].port, PATH, headers={names.HOP_HEADER: "sim-1"}):
        heard_by(two[0], 1)
        with Stream(two[1].port, PATH):
            heard_by(two[0], 2)
        assert two[1].relay.metric('rhapsode_requests_forwarded_total{kind="correlation",result="passed"}') == 0
        assert httpx.get(f"{two[0].relay.admin_url}/metrics").text.count('kind="correlation"') == 0


def test_a_slow_screen_stalls_no_agent_and_its_relay_keeps_little() -> None:
    import psutil

    with replicas(2, onDisconnect="continue") as two:
        screen = Stream(two[0].port, PATH, receive_buffer=4096)
        heard_by(two[1], 1)
        before = psutil.Process(two[0].relay.pid).memory_info().rss
        with ask(two[1].port, max_tokens=1_000_000, headers=IDS) as agent:
            job = worker_of(two[1]).begin()
            for i in range(0, 100_000, 500):
                worker_of(two[1]).send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
                while agent.next("token").data["i"] < i + 499:
                    continue
            worker_of(two[1]).finish(job, 100_000)
            assert agent.rest()[-1].name == "done"
        assert psutil.Process(two[0].relay.pid).memory_info().rss - before < 16 * 2**20
        wait_until(lambda: two[0].relay.metric("rhapsode_relay_readers_stalled_total") == 1, "it is cut off")
        screen.close()


# Cutting


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_events_are_cut_whole_wherever_the_network_cuts_them(step: int) -> None:
    told = [b'id: sim-1-e-%d\nevent: token\ndata: {"t":"\\n: hb"}\n\n' % n for n in range(5)]
    wire = b"retry: 2000\n: hb\n" + told[0] + b": hb\n: hb\n" + b"".join(told[1:4]) + b": hb\n" + told[4] + b": hb\n"
    cutter = EventCutter()
    cut = [cutter.cut(wire[at : at + step]) for at in range(0, len(wire), step)]
    assert b"".join(cut) == b"".join(told)
    assert all(not one or (one.startswith(b"id: ") and one.endswith(b"\n\n")) for one in cut)
    assert cutter.last_id == b"sim-1-e-4"


def test_an_event_without_end_is_given_up() -> None:
    cutter = EventCutter()
    for _ in range(MAX_EVENT_BYTES // 2**20):
        cutter.cut(b"x" * 2**20)
    with pytest.raises(Broken):
        cutter.cut(b"x")


def test_heartbeats_of_a_day_take_no_memory() -> None:
    cutter = EventCutter()
    for _ in range(10_000):
        assert cutter.cut(b": hb\n") == b""
    assert len(cutter._rest) == 0
