"""`rhapsode selfcheck` of OpenVINO with the small real model, as CI runs it."""

from typing import Any

import pytest

from support.models import smollm
from support.selfchecks import Checked, selfcheck

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def checked() -> Checked:
    smollm()
    return selfcheck("--engine", "OpenVINO")


def test_all_that_can_be_checked_without_a_gpu_is_ok(checked: Checked) -> None:
    assert (checked.status, checked.report["result"]) == (0, "ok"), checked.report
    assert "failed" not in checked.by_outcome
    needed = ["package", "model", "load", "stream", "chat", "two at once", "abort", "JSON schema", "end"]
    assert checked.outcomes(*needed) == ["ok"] * len(needed)


def test_what_was_measured_is_in_words_and_in_numbers(checked: Checked) -> None:
    facts: dict[str, Any] = checked.row("stream")["facts"]
    assert facts["tokens"] > 8
    assert facts["pieces"] > 1
    assert 0 < facts["ttft_ms"] < facts["ttft_ms"] + facts["decode_ms"]
    assert set(checked.row("package")["facts"]["versions"]) == {"openvino-genai", "openvino", "openvino-tokenizers"}


def test_the_load_is_narrated_while_it_goes_on(checked: Checked) -> None:
    assert "· Importing OpenVINO\n" in checked.told
    assert "· Loading weights" in checked.told
    assert "Warmed up: first token in" in checked.told
