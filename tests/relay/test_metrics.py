"""What a relay's page of metrics says of times and loads, and what it does not count."""

import httpx

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.streams import ask

FIRST = "rhapsode_time_to_first_token_seconds"


def page(relay: Relay) -> str:
    return httpx.get(f"{relay.admin_url}/metrics").text


def test_the_time_to_the_first_token_is_counted_of_jobs_that_had_one(relay: Relay, worker: FakeWorker) -> None:
    assert relay.metric(f"{FIRST}_count") == 0
    for texts in (("a", "b"), ()):
        with ask(relay.port) as stream:
            worker.serve(*texts)
            stream.rest()
    wait_until(lambda: relay.metric('rhapsode_jobs_ended_total{status="completed"}') == 2, "both jobs ended")
    assert relay.metric(f"{FIRST}_count") == relay.metric(f'{FIRST}_bucket{{le="+Inf"}}') == 1
    assert relay.metric(f'{FIRST}_bucket{{le="900.0"}}') == 1
    assert 0 < relay.metric(f"{FIRST}_sum") < 900


def test_a_load_is_shown_with_its_stage_and_ends_with_it(relay: Relay) -> None:
    shown = 'rhapsode_load_percent{stage="importing"}'
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.State(phase="loading"), frames.Load(stage="importing", percent=42))
        wait_until(lambda: relay.metric(shown) == 42, "the load is shown")
        assert relay.metric('rhapsode_worker_phase{phase="loading"}') == 1
        worker.send(frames.State(phase="ready"))
        wait_until(lambda: relay.metric('rhapsode_worker_phase{phase="ready"}') == 1, "the worker is ready")
        assert relay.metric(shown) == 0


def test_narration_that_nobody_asked_for_is_not_counted_as_dropped(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, narration={"level": "warn", "max_rate": 1}) as stream:
        job = worker.begin()
        said = [frames.Narration(human="so far", action="tokens", job_id=job.job_id, level="info") for _ in range(5)]
        worker.send(*said)
        worker.speak(job, "a")
        worker.finish(job, 1)
        stream.rest()
    assert relay.metric("rhapsode_relay_narrations_dropped_total") == 0


def test_the_kv_cache_is_shown_as_long_as_an_engine_tells_of_it(relay: Relay) -> None:
    used, total = "rhapsode_kv_cache_used_blocks", "rhapsode_kv_cache_total_blocks"
    with FakeWorker(relay.socket) as worker:
        wait_until(lambda: relay.metric("rhapsode_worker_ready") == 1, "the worker is ready")
        assert f"\n{used} " not in page(relay)
        assert "kv_used" not in relay.get("/v1/worker").json()
        worker.send(frames.Stats(active=1, kv_used=0, kv_total=1024))
        wait_until(lambda: relay.metric(total) == 1024, "its size is shown")
        assert f"\n{used} 0.0\n" in page(relay)
        worker.send(frames.Stats(active=1, kv_used=77, kv_total=1024))
        wait_until(lambda: relay.metric(used) == 77, "its use is shown")
        shown = relay.get("/v1/worker").json()
        assert (shown["kv_used"], shown["kv_total"]) == (77, 1024)
        worker.send(frames.State(phase="loading"))
        wait_until(lambda: f"\n{used} " not in page(relay), "what is gone is not shown")
