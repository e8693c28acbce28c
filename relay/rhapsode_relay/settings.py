"""Settings of one relay, read once by `__main__` from the manifest and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rhapsode_contract import names
from rhapsode_contract.access import KeyLimits
from rhapsode_contract.outcomes import Outcome
from rhapsode_contract.requests import OnDisconnect, Style
from rhapsode_contract.resources import InferenceWorker
from rhapsode_relay.patience import Patience
from rhapsode_relay.peers import PeerPlan, parse_peers

_PATIENCE, _NO_LIMITS = Patience(), KeyLimits()


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    """How one relay behaves."""

    worker_id: str
    """Name of this replica; job ids begin with it."""
    name: str
    """Name of the resource, which its replicas share."""
    model: str
    """The one model that is served, by the name that clients use."""
    socket: Path
    """Where the worker socket listens."""
    host: str = "127.0.0.1"
    """Address of both ports. Loopback unless the environment says otherwise."""
    port: int = names.DEFAULT_PORT
    admin_port: int = names.DEFAULT_ADMIN_PORT
    keys: Path | None = None
    """Folder of the keys that let clients in; None lets everyone in."""
    outcomes: tuple[Outcome, ...] = ()
    """Contracts of turns."""
    turn_limit: int = 64
    """Turns at once."""
    secrets: Path | None = None
    """Folder of the secrets that turns need."""
    peers: PeerPlan = ""
    """Where the other replicas are; empty for a relay that is alone."""
    peer_slack: float = 1.0
    """How many times longer than usual the other replicas may take; more where machines stand still at times."""
    reunion_s: float = 5.0
    """How long after its start a relay waits for the worker that may still hold a job."""
    style: Style = "human"
    """Words that the page and the CLI show first."""
    heartbeat_s: float = 15.0
    """Silence after which a stream gets a comment line; below every proxy's idle limit (60 s)."""
    queue_limit: int = 64
    """Requests that may wait for the worker or for a slot."""
    on_disconnect: OnDisconnect = "grace"
    grace_s: float = 15.0
    """How long a job without a token reader goes on under `grace`."""
    drain_s: float = 60.0
    """How long running jobs may take after SIGTERM."""
    stall_s: float = 10.0
    """How long a reader may refuse data before it is closed; it can resume."""
    keep_s: float = 300.0
    """How long a finished job can be read again."""
    memory_bytes: int = 256 * 1024 * 1024
    """What all journals together may take; beyond it finished jobs go first, then new ones are refused."""
    max_jobs: int = 10_000
    """Jobs that are kept at once, finished ones included."""
    max_readers: int = 32
    """Readers of one job or correlation id at once."""
    max_connections: int = 4096
    """Client connections at once; the next one is answered 503."""
    patience: Patience = _PATIENCE
    """How long the engine may take for a request."""
    origins: tuple[str, ...] = ()
    """Origins of other sites' pages that may ask."""
    key_limits: KeyLimits = _NO_LIMITS
    """What the clients of one key may take up."""

    @classmethod
    def load(cls, resource: InferenceWorker, environ: Mapping[str, str]) -> "RelaySettings":
        """Return the settings of this process; ValueError for an environment that makes no sense."""
        spec, limits = resource.spec, resource.spec.relay.limits
        if environ.get(names.ENV_KEYS) == "":
            raise ValueError(f"{names.ENV_KEYS} is empty: it names the folder of the keys that let clients in")
        port = int(environ.get(names.ENV_PORT, names.DEFAULT_PORT))
        return cls(
            worker_id=environ.get(names.ENV_WORKER_ID) or resource.metadata.name,
            name=resource.metadata.name,
            model=spec.model.name,
            socket=names.default_socket(environ, port),
            host=environ.get(names.ENV_HOST, "127.0.0.1"),
            port=port,
            admin_port=int(environ.get(names.ENV_ADMIN_PORT, names.DEFAULT_ADMIN_PORT)),
            keys=Path(environ[names.ENV_KEYS]) if names.ENV_KEYS in environ else None,
            outcomes=tuple(spec.outcomes),
            turn_limit=spec.relay.turn_limit,
            secrets=Path(environ[names.ENV_SECRETS]) if environ.get(names.ENV_SECRETS) else None,
            peers=parse_peers(environ[names.ENV_PEERS]) if environ.get(names.ENV_PEERS) else "",
            style=spec.relay.narration,
            heartbeat_s=spec.relay.heartbeat_seconds,
            queue_limit=spec.relay.queue_limit,
            on_disconnect=spec.relay.on_disconnect,
            grace_s=spec.relay.grace_seconds,
            drain_s=spec.relay.drain_seconds,
            max_readers=limits.readers_per_job,
            max_connections=limits.connections,
            patience=Patience(limits.first_token_seconds, limits.idle_seconds, limits.total_seconds),
            origins=tuple(spec.relay.cors.allowed_origins),
            key_limits=spec.auth.limits if spec.auth is not None else _NO_LIMITS,
        )
