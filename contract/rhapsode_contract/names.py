"""Names and limits that more than one process must agree on."""

import ipaddress
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

GROUP = "rhapsode.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "InferenceWorker"
PLURAL = "inferenceworkers"

ENV_SOCKET = "RHAPSODE_SOCKET"
"""Path of the worker socket, for the relay, the worker and anyone who narrates."""
ENV_MANIFEST = "RHAPSODE_MANIFEST"
"""Path of the InferenceWorker manifest that relay and worker serve (YAML or JSON)."""
ENV_WORKER_ID = "RHAPSODE_WORKER_ID"
"""Name of this replica: the pod's name in a cluster, the resource's name on a laptop."""
ENV_CACHE = "RHAPSODE_CACHE"
"""Folder for fetched models and the history of load times."""
ENV_MODEL_FOLDER = "RHAPSODE_MODEL_FOLDER"
"""Folder where the claim of a pvc:// source is mounted; not set outside a cluster."""
ENV_TERMINATION_LOG = "RHAPSODE_TERMINATION_LOG"
"""File for the reason of a worker that gave up, as JSON: the container's `terminationMessagePath`."""
ENV_PORT = "RHAPSODE_PORT"
ENV_ADMIN_PORT = "RHAPSODE_ADMIN_PORT"
ENV_HOST = "RHAPSODE_HOST"
ENV_KEYS = "RHAPSODE_KEYS"
"""Folder of the keys that let clients into a relay, one file each; without it everyone may come in."""
ENV_KEY = "RHAPSODE_KEY"
"""The key that the command line shows to a relay."""
ENV_SECRETS = "RHAPSODE_SECRETS"
"""Folder of the secrets that the sinks and sources of turns need: a folder for each Secret, a file for each key."""
ENV_PEERS = "RHAPSODE_PEERS"
"""Where a relay finds the other replicas: the name of a headless Service, or a list of `worker=host:port`."""
HOP_HEADER = "X-Rhapsode-Hop"
"""Marks a request that one replica passed on to another, with the worker id of the first; it goes no further."""
ENV_LIFELINE = "RHAPSODE_LIFELINE"
"""Set by a parent that holds our standard input open: its end means that the parent is gone."""

DEFAULT_PORT = 8080
DEFAULT_ADMIN_PORT = 9101
POD_SOCKET = Path("/run/rhapsode/worker.sock")

OUTGOING = "Outgoing"
"""Reason of the phase `draining` of a relay that was told to drain for good: its pod is to go."""
EXIT_CANNOT_WORK = 78
"""Exit status (EX_CONFIG of sysexits.h) of a process that no restart can help."""

MAX_FRAME_BYTES = 64 * 1024
"""Longest line that the relay accepts on the worker socket, newline included."""
MAX_COMMAND_BYTES = 4 * 1024 * 1024
"""Longest line that the worker accepts from the relay: a request of the largest body, escaped."""
MAX_BODY_BYTES = 1024 * 1024
"""Largest HTTP request body."""
MAX_REGEX_CHARS = 4096
"""Longest regular expression that an answer may be asked to match."""
MAX_GRAMMAR_CHARS = 64 * 1024
"""Longest grammar that an answer may be asked to keep to."""
MAX_HUMAN_CHARS = 300
"""Longest narration sentence; what is longer is cut with an ellipsis."""
MAX_TERMINATION_BYTES = 4096
"""What Kubernetes keeps of a container's termination message."""
MAX_TABLE_CHARS = 16 * 1024
"""Longest drawn table."""

VRAM_NEARLY_FULL, VRAM_RELIEVED = 0.97, 0.94
"""VRAM pressure begins at the first share of a GPU's memory, reserved included, and ends below the second."""

CORRELATION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What an id may look like that we echo in headers, logs and events."""


def default_socket(environ: Mapping[str, str], port: int = DEFAULT_PORT) -> Path:
    """Return where the worker socket is: the environment's word, the pod's path, or this user's own folder.

    Two workers on one laptop differ by their client port, so the port is part of the name unless it is
    the default one.
    """
    if named := environ.get(ENV_SOCKET):
        return Path(named)
    if POD_SOCKET.parent.is_dir():
        return POD_SOCKET
    name = "worker.sock" if port == DEFAULT_PORT else f"worker-{port}.sock"
    return Path(tempfile.gettempdir()) / f"rhapsode-{os.getuid()}" / name


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(host: str) -> bool:
    """Return whether a host is said by its address, not by a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def default_cache(environ: Mapping[str, str]) -> Path:
    """Return the folder that keeps models between runs."""
    if named := environ.get(ENV_CACHE):
        return Path(named)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rhapsode"
