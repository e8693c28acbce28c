"""Settings of one operator process, read once by `__main__` from the environment."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rhapsode_contract import __version__
from rhapsode_operator.errors import CannotRun

DEFAULT_OPERATOR_PORT = 8081
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def default_image(name: str) -> str:
    """Return an image of the same release as this operator."""
    return f"{name}:{__version__}"


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    """How one operator behaves."""

    watch_namespaces: tuple[str, ...] = ()
    """RHAPSODE_WATCH_NAMESPACES: namespaces to serve, separated by commas; none means the whole cluster."""
    namespace: str = "default"
    """RHAPSODE_NAMESPACE: where this operator runs and keeps its Lease; the pod's namespace by itself."""
    identity: str
    """RHAPSODE_POD_NAME: who we are to other operators; host and process by itself."""
    lease_name: str = "rhapsode-operator"
    """RHAPSODE_LEASE_NAME: operators that share a Lease take turns."""
    lease_s: float = 15.0
    """RHAPSODE_LEASE_SECONDS: how long others wait for a leader that says nothing."""
    renew_s: float = 10.0
    """RHAPSODE_LEASE_RENEW_SECONDS: how long a leader that cannot renew goes on; below the above."""
    retry_s: float = 2.0
    """RHAPSODE_LEASE_RETRY_SECONDS: how often the Lease is renewed, or looked at."""
    workers: int = 16
    """RHAPSODE_RECONCILE_WORKERS: resources that are reconciled at once."""
    resync_s: float = 600.0
    """RHAPSODE_RESYNC_SECONDS: how often each resource is looked at when nothing happens, give or take a tenth."""
    host: str = "127.0.0.1"
    """RHAPSODE_HOST: address of health and metrics; loopback unless the environment says otherwise."""
    port: int = DEFAULT_OPERATOR_PORT
    """RHAPSODE_PORT: port of health and metrics."""
    relay_image: str
    """RHAPSODE_RELAY_IMAGE: the relay of resources that name none."""
    worker_image_cpu: str
    """RHAPSODE_WORKER_IMAGE_CPU: the worker with OpenVINO and the simulator."""
    worker_image_tensorrt_llm: str
    """RHAPSODE_WORKER_IMAGE_TENSORRT_LLM: the worker with TensorRT-LLM."""
    initial_streaming: bool = False
    """RHAPSODE_INITIAL_STREAMING: list by watching; saves memory, but an etcd before 3.5.13 ends the operator."""
    log_level: int = logging.INFO
    """RHAPSODE_LOG_LEVEL: debug, info, warning or error."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "OperatorSettings":
        """Return the settings of this process; CannotRun names the variable that is wrong."""
        given = {name: _read(environ, variable) for name, variable in _VARIABLES.items() if environ.get(variable)}
        settings = cls(**(_defaults() | given))
        if not settings.retry_s < settings.renew_s < settings.lease_s:
            raise CannotRun(
                "RHAPSODE_LEASE_RETRY_SECONDS must be less than RHAPSODE_LEASE_RENEW_SECONDS, and that less than "
                f"RHAPSODE_LEASE_SECONDS: {settings.retry_s:g}, {settings.renew_s:g}, {settings.lease_s:g} are not"
            )
        return settings


def _defaults() -> dict[str, Any]:
    return {
        "namespace": _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.is_file() else "default",
        "identity": f"{socket.gethostname()}_{os.getpid()}",
        "relay_image": default_image("rhapsode-relay"),
        "worker_image_cpu": default_image("rhapsode-worker-cpu"),
        "worker_image_tensorrt_llm": default_image("rhapsode-worker-tensorrt-llm"),
    }


def _variables() -> dict[str, str]:
    special = {
        "identity": "RHAPSODE_POD_NAME",
        "lease_s": "RHAPSODE_LEASE_SECONDS",
        "renew_s": "RHAPSODE_LEASE_RENEW_SECONDS",
        "retry_s": "RHAPSODE_LEASE_RETRY_SECONDS",
        "resync_s": "RHAPSODE_RESYNC_SECONDS",
        "workers": "RHAPSODE_RECONCILE_WORKERS",
    }
    return {
        field.name: special.get(field.name, f"RHAPSODE_{field.name.upper()}") for field in fields(OperatorSettings)
    }


def _read(environ: Mapping[str, str], variable: str) -> Any:
    text = environ[variable].strip()
    try:
        return _READERS.get(variable, str)(text)
    except (ValueError, KeyError) as exc:
        wanted = exc.args[0] if isinstance(exc, ValueError) else "known"
        raise CannotRun(f"{variable} is {text!r}, which is not {wanted}") from None


def _number(text: str, *, least: float, most: float, whole: bool) -> Any:
    kind = "a whole number" if whole else "a number"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = most + 1
    if not least <= value <= most:
        raise ValueError(f"{kind} from {least:g} to {most:g}")
    return value


def _seconds(text: str) -> Any:
    return _number(text, least=0.05, most=86_400, whole=False)


def _port(text: str) -> Any:
    return _number(text, least=1, most=65_535, whole=True)


def _workers(text: str) -> Any:
    return _number(text, least=1, most=256, whole=True)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _level(text: str) -> int:
    level = logging.getLevelNamesMapping().get(text.upper())
    if level is None:
        raise ValueError("debug, info, warning or error")
    return level


def _namespaces(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


_VARIABLES = _variables()
_READERS = {
    "RHAPSODE_WATCH_NAMESPACES": _namespaces,
    "RHAPSODE_LEASE_SECONDS": _seconds,
    "RHAPSODE_LEASE_RENEW_SECONDS": _seconds,
    "RHAPSODE_LEASE_RETRY_SECONDS": _seconds,
    "RHAPSODE_RESYNC_SECONDS": _seconds,
    "RHAPSODE_RECONCILE_WORKERS": _workers,
    "RHAPSODE_PORT": _port,
    "RHAPSODE_INITIAL_STREAMING": _switch,
    "RHAPSODE_LOG_LEVEL": _level,
}
