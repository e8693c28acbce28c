"""The relay's counters and gauges for Prometheus, read when they are asked for. Called by `__main__`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from rhapsode_relay.conducting import Conductor
from rhapsode_relay.counting import Spread
from rhapsode_relay.listening import Room
from rhapsode_relay.reading import Readers


class RelayCollector(Collector):
    """Turns what the relay counts into metrics."""

    def __init__(self, house: Conductor, readers: Readers, room: Room) -> None:
        self._house = house
        self._readers = readers
        self._room = room

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._streams()
        yield from self._load()
        yield from self._vram()
        yield from self._kv_cache()

    def _gauges(self) -> Iterator[Metric]:
        line = self._house.line
        yield GaugeMetricFamily(
            "rhapsode_worker_ready", "1 while the worker takes requests.", self._house.worker.ready
        )
        yield GaugeMetricFamily("rhapsode_jobs_running", "Jobs that hold a slot of the worker.", line.running)
        yield GaugeMetricFamily("rhapsode_jobs_queued", "Requests that wait.", line.waiting)
        yield GaugeMetricFamily(
            "rhapsode_jobs_kept", "Jobs that can be read, finished ones included.", len(self._house.jobs)
        )
        yield GaugeMetricFamily("rhapsode_relay_readers", "Open event streams.", len(self._readers))
        yield GaugeMetricFamily("rhapsode_relay_journal_bytes", "Memory of all journals.", self._house.jobs.bytes)

    def _counters(self) -> Iterator[Metric]:
        counts = self._house.counts
        live = sum(job.tokens for job in self._house.jobs if not (job.over or job.hidden))
        yield CounterMetricFamily("rhapsode_requests_accepted", "Requests accepted.", counts.accepted)
        yield CounterMetricFamily("rhapsode_tokens", "Tokens relayed.", counts.tokens + live)
        yield CounterMetricFamily("rhapsode_relay_narrations", "Narrations told to requests.", counts.narrations)
        yield CounterMetricFamily(
            "rhapsode_relay_narrations_dropped", "Narrations left out of requests.", counts.narrations_dropped
        )
        yield CounterMetricFamily("rhapsode_socket_bad_lines", "Lines that could not be read.", self._room.bad_lines)
        yield CounterMetricFamily(
            "rhapsode_socket_notes_dropped",
            "Narrations of others in the pod that came too fast.",
            self._room.notes_dropped,
        )
        yield CounterMetricFamily(
            "rhapsode_relay_readers_stalled", "Readers cut off for refusing data.", self._readers.stalled
        )
        yield _labelled("rhapsode_requests_refused", "Requests refused, by error code.", "code", counts.refused)
        yield _labelled("rhapsode_jobs_ended", "Jobs that ended, by status.", "status", counts.jobs_ended)
        yield _labelled("rhapsode_jobs_timed_out", "Jobs that took too long, by code.", "code", counts.timed_out)
        yield _labelled(
            "rhapsode_relay_streams_opened", "Streams opened, by how they began.", "began", counts.replays
        )
        yield _labelled(
            "rhapsode_requests_handed_over", "New requests another replica took.", "why", counts.handed_over
        )
        yield self._forwarded()

        text = "From acceptance to the first token, of jobs that ended."
        yield _spread("rhapsode_time_to_first_token_seconds", text, counts.first_token)

    def _streams(self) -> Iterator[Metric]:
        counts = self._house.counts
        reached = counts.streams.get
        yield CounterMetricFamily("rhapsode_streams_started", "Streams of requests accepted.", reached("start", 0))
        yield CounterMetricFamily(
            "rhapsode_streams_completed", "Streams that came to their end.", reached("complete", 0)
        )
        yield CounterMetricFamily(
            "rhapsode_streams_disconnected",
            "Times that a running stream lost its last reader.",
            reached("client_disconnect", 0),
        )
        yield CounterMetricFamily(
            "rhapsode_turn_validation_failures", "Turns whose outcome was not valid.", counts.turns_invalid
        )
        yield _spread("rhapsode_stream_tokens", "Tokens of streams that ended.", counts.stream_tokens)
        yield _spread("rhapsode_stream_duration_seconds", "From acceptance to the end of streams.", counts.stream_s)
        sinks = CounterMetricFamily("rhapsode_sink_calls", "Writes of turns, by status.", labels=["sink", "status"])
        for labels, count in sorted(counts.sink_calls.items()):
            sinks.add_metric(labels, count)
        yield sinks

    def _load(self) -> Iterator[Metric]:
        worker = self._house.worker
        phase = GaugeMetricFamily("rhapsode_worker_phase", "1 for the phase that the worker is in.", labels=["phase"])
        phase.add_metric([worker.phase], 1)
        yield phase
        percent = GaugeMetricFamily("rhapsode_load_percent", "How much of a load's stage is done.", labels=["stage"])
        if worker.load is not None and worker.load.percent is not None:
            percent.add_metric([worker.load.stage], worker.load.percent)
        yield percent

    def _forwarded(self) -> Metric:
        text = "Requests passed on to other replicas, by kind and result."
        family = CounterMetricFamily("rhapsode_requests_forwarded", text, labels=["kind", "result"])
        for labels, count in sorted(self._house.counts.forwarded.items()):
            family.add_metric(labels, count)
        return family

    def _vram(self) -> Iterator[Metric]:
        vram = self._house.worker.vram
        used = GaugeMetricFamily("rhapsode_vram_used_bytes", "VRAM in use, as NVML reports it.", labels=["uuid"])
        total = GaugeMetricFamily("rhapsode_vram_total_bytes", "VRAM of the device.", labels=["uuid"])
        for gpu in vram.gpus if vram else []:
            used.add_metric([gpu.uuid], gpu.used_bytes)
            total.add_metric([gpu.uuid], gpu.total_bytes)
        yield used
        yield total

    def _kv_cache(self) -> Iterator[Metric]:
        stats = self._house.worker.stats
        for name, text, blocks in (
            ("used", "Blocks of the engine's KV cache in use; absent where the engine does not tell.", stats.kv_used),
            ("total", "Blocks of the engine's KV cache.", stats.kv_total),
        ):
            family = GaugeMetricFamily(f"rhapsode_kv_cache_{name}_blocks", text)
            if blocks is not None:
                family.add_metric([], blocks)
            yield family


def _spread(name: str, text: str, spread: Spread) -> Metric:
    return HistogramMetricFamily(name, text, buckets=list(spread.buckets()), sum_value=spread.total)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
