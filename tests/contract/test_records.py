"""Log records have the same keys in every process, and nothing in them can forge another."""

import json
import logging
import re

from rhapsode_contract.catalogue import narrate
from rhapsode_contract.records import RecordFormatter, log_narration, timestamp


def logged(message: str, **facts: object) -> dict[str, object]:
    record = logging.LogRecord("rhapsode.relay", logging.INFO, "f", 1, message, (), None)
    record.facts = facts
    line = RecordFormatter("relay", "smollm-0").format(record)
    assert "\n" not in line
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_a_record_has_the_keys_that_all_have() -> None:
    record = logged("Ready", event="ready", job_id="", correlation_id=None)
    assert list(record) == ["timestamp", "level", "component", "event", "worker_id", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(record["timestamp"]))
    assert (record["level"], record["component"], record["event"]) == ("info", "relay", "ready")


def test_a_message_cannot_forge_a_record() -> None:
    assert logged('x\n{"event":"forged"}\x1b[2J')["message"] == 'x {"event":"forged"} [2J'


def test_a_narration_is_logged_with_its_job() -> None:
    seen: list[logging.LogRecord] = []
    logger = logging.getLogger("test.narration")
    logger.addFilter(lambda record: bool(seen.append(record)))  # type: ignore[func-returns-value]
    logger.setLevel(logging.INFO)
    log_narration(logger, narrate("first_token", {"ms": 43}, job_id="a-1"), "req-1")
    record = json.loads(RecordFormatter("worker", "w").format(seen[0]))
    assert (record["event"], record["job_id"], record["correlation_id"]) == ("first_token", "a-1", "req-1")
    assert record["fields"] == {"ms": 43}


def test_a_moment_is_rfc_3339_to_the_millisecond() -> None:
    assert timestamp(1_763_712_000.1239) == "2025-11-21T08:00:00.124Z"
    assert timestamp(1_763_712_000.9996) == "2025-11-21T08:00:01.000Z"
