"""The operator's settings, from the environment."""

import dataclasses
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rhapsode_operator import settings as module
from rhapsode_operator.errors import CannotRun
from rhapsode_operator.settings import OperatorSettings

SOURCE = Path(module.__file__).read_text()


def test_nothing_needs_to_be_set() -> None:
    settings = OperatorSettings.from_env({})
    assert settings.watch_namespaces == ()
    assert (settings.lease_s, settings.renew_s, settings.retry_s, settings.workers) == (15, 10, 2, 16)
    assert settings.relay_image == "rhapsode-relay:0.1.0"
    assert str(os.getpid()) in settings.identity
    assert not settings.initial_streaming


def test_everything_can_be_set() -> None:
    settings = OperatorSettings.from_env(
        {
            "RHAPSODE_WATCH_NAMESPACES": " a, b,,a ",
            "RHAPSODE_NAMESPACE": "here",
            "RHAPSODE_POD_NAME": "operator-1",
            "RHAPSODE_LEASE_NAME": "lease",
            "RHAPSODE_LEASE_SECONDS": "30",
            "RHAPSODE_LEASE_RENEW_SECONDS": "20",
            "RHAPSODE_LEASE_RETRY_SECONDS": "0.5",
            "RHAPSODE_RECONCILE_WORKERS": "4",
            "RHAPSODE_RESYNC_SECONDS": "60",
            "RHAPSODE_HOST": "0.0.0.0",
            "RHAPSODE_PORT": "9000",
            "RHAPSODE_RELAY_IMAGE": "r:1",
            "RHAPSODE_WORKER_IMAGE_CPU": "w:1",
            "RHAPSODE_WORKER_IMAGE_TENSORRT_LLM": "t:1",
            "RHAPSODE_INITIAL_STREAMING": "TRUE",
            "RHAPSODE_LOG_LEVEL": "debug",
        }
    )
    assert settings == OperatorSettings(
        watch_namespaces=("a", "b"),
        namespace="here",
        identity="operator-1",
        lease_name="lease",
        lease_s=30,
        renew_s=20,
        retry_s=0.5,
        workers=4,
        resync_s=60,
        host="0.0.0.0",
        port=9000,
        relay_image="r:1",
        worker_image_cpu="w:1",
        worker_image_tensorrt_llm="t:1",
        initial_streaming=True,
        log_level=logging.DEBUG,
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("RHAPSODE_PORT", "70000", "a whole number from 1 to 65535"),
        ("RHAPSODE_PORT", "http", "a whole number"),
        ("RHAPSODE_LEASE_SECONDS", "nan", "a number from"),
        ("RHAPSODE_RESYNC_SECONDS", "-1", "a number from"),
        ("RHAPSODE_RECONCILE_WORKERS", "0", "a whole number from 1 to 256"),
        ("RHAPSODE_RECONCILE_WORKERS", "1.5", "a whole number"),
        ("RHAPSODE_INITIAL_STREAMING", "yes", "true or false"),
        ("RHAPSODE_LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(variable: str, value: str, words: str) -> None:
    with pytest.raises(CannotRun, match=f"{variable} is '{re.escape(value)}', which is not {words}"):
        OperatorSettings.from_env({variable: value})


def test_a_lease_that_is_shorter_than_its_renewal_is_refused() -> None:
    with pytest.raises(CannotRun, match="must be less than"):
        OperatorSettings.from_env({"RHAPSODE_LEASE_SECONDS": "5"})


def test_each_setting_says_what_it_is_and_how_it_is_set() -> None:
    told = re.findall(r'^    (\w+): .*\n    """(RHAPSODE_\w+): .+', SOURCE, re.MULTILINE)
    assert dict(told) == module._VARIABLES
    assert len(told) == len(dataclasses.fields(OperatorSettings))


def test_the_process_says_one_line_about_a_bad_value_and_exits() -> None:
    command = [sys.executable, "-m", "rhapsode_operator"]
    environ = os.environ | {"RHAPSODE_PORT": "many"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert done.stderr == "rhapsode-operator: RHAPSODE_PORT is 'many', which is not a whole number from 1 to 65535\n"
