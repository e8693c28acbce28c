"""The narration catalogue: every action that Rhapsode itself narrates, with its words. One table
(what becomes of models is in `model_entries.py`, how engines load in `load_entries.py`, what GPUs do in
`gpu_entries.py`, turns in `turn_entries.py`).

Rules of the words: what is happening, with its size; one idea a line, at most 100 characters; a failure names
its remedy; a number is measured or absent. `cute` says the same fact warmly, `story` in the third person.
An action's name never changes once released. `docs/narration.md` is made from this table.
"""

from collections.abc import Mapping
from typing import Any

from rhapsode_contract.cluster_entries import CLUSTER_ENTRIES
from rhapsode_contract.entries import Entry
from rhapsode_contract.entries import tell_of_life as _life
from rhapsode_contract.entries import tell_of_request as _request
from rhapsode_contract.frames import Narration
from rhapsode_contract.gpu_entries import GPU_ENTRIES
from rhapsode_contract.load_entries import LOAD_ENTRIES
from rhapsode_contract.model_entries import MODEL_ENTRIES
from rhapsode_contract.turn_entries import TURN_ENTRIES
from rhapsode_contract.wording import clean, fill

__all__ = ["CATALOGUE", "Entry", "narrate"]


def narrate(
    action: str, fields: Mapping[str, Any], *, job_id: str | None = None, progress: float | None = None
) -> Narration:
    """Return the narration of a built-in action, worded from its fields."""
    entry = CATALOGUE[action]
    return Narration(
        action=entry.action,
        actor=entry.actor,
        level=entry.level,
        human=clean(fill(entry.human, fields)),
        cute=clean(fill(entry.cute, fields)),
        story=clean(fill(entry.story, fields)),
        target=clean(str(fields.get(entry.target, ""))) if entry.target else "",
        progress=None if progress is None else round(min(max(progress, 0.0), 1.0), 4),
        fields={
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in fields.items()
            if value is not None
        },
        job_id=job_id,
    )


_LIFECYCLE = (
    _life(
        "start", "supervisor", "Worker {worker} started with {engine}",
        "{worker} stretches and looks around 🌅", "A worker named {worker} opened its eyes.",
        target="worker",
    ),
    _life(
        "device_found", "gpu", "Found {count} × {name}[, {total_bytes:gib} each][, driver {driver}]",
        "A roomy {name} to live in 🏠", "It counted {count} × {name}[ and {total_bytes:gib} of room in each].",
        target="name",
    ),
    _life(
        "device_none", "gpu", "No NVIDIA driver here: running on {cores} CPU core{cores:s}, VRAM unknown (no NVML)",
        "No GPU today; {cores} core{cores:s} will do 🧮",
        "There was no GPU in sight, so {cores} core{cores:s} rolled up their sleeves.",
    ),
    _life(
        "device_error", "gpu", "VRAM unknown: NVML says {why}. Check the driver with nvidia-smi",
        level="warn",
    ),
    _life(
        "engine_import", "engine", "Importing {engine}",
        "Putting on the heavy boots 🥾", "It put on its heavy boots, called {engine}.", target="engine",
    ),
    _life(
        "weights_load", "engine",
        "Loading weights[: {bytes_done:size} of {bytes_total:size}][, {fraction:percent}][, about {eta_s:span} left]",
        "Carrying the weights upstairs[: {fraction:percent}] 🧳",
        "It carried the weights upstairs[: {fraction:percent}].",
        target="model",
    ),
    _life(
        "engine_build", "engine", "Compiling {model} for {device}[, usually {usual_s:span}]",
        "Practising scales 🎻", "It practised its scales on {device}.",
        target="model",
    ),
    _life(
        "kv_cache_alloc", "engine",
        "KV cache[ of {bytes_total:gib}] for up to {tokens} tokens at once",
        "Fluffing a pillow for memories 🛏️", "It fluffed a pillow for its memories.",
    ),
    _life(
        "graphs_capture", "engine", "Capturing CUDA graphs[ {again}]: {done} of {total}",
        "Learning the steps by heart 💃", "It learned the steps by heart.",
    ),
    _life(
        "warmup", "engine", "Warmed up: first token in {ms:ms}",
        "Clearing the throat 🎤", "It cleared its throat for {ms:ms}.",
    ),
    _life(
        "load_stage", "engine", "Loading: {stage}[, {fraction:percent}][, about {eta_s:span} left]",
        "Still tidying up: {stage} 🧹", "It busied itself with {stage}.", target="stage",
    ),
    _life(
        "engine_version", "engine",
        "{engine} {version} is not the {known} that this worker was written for{differences}. Try it with care",
        level="warn", target="engine",
    ),
    _life(
        "shared_memory_small", "engine",
        "Shared memory is {size_bytes:size}; {gpus} GPUs may need more. Give the volume at /dev/shm 1 GiB or more",
        level="warn",
    ),
    _life(
        "still", "supervisor",
        "Still {doing}: {elapsed_s:span}[ (usually {usual_s:span})][, ready in about {ready_in_s:span}]",
        "Patience: good things load slowly 🐢", "It was still {doing} after {elapsed_s:span}.", target="doing",
    ),
    _life(
        "ready", "supervisor",
        "Ready after {seconds:span}: {slots} request{slots:s} at once, {context_tokens} tokens of context, {vram}",
        "The hall is open ✨", "After {seconds:span} the hall was open.",
    ),
    _life(
        "engine_exit", "supervisor",
        "Engine ended by {how}[: {last_line:word}]. Restarting in {backoff_s:span} ({attempt} of {attempts})",
        level="error", target="how",
    ),
    _life("load_failed", "supervisor", "Could not load {model}: {why:word}. {remedy}", level="error", target="model"),
    _life(
        "drain", "supervisor", "Draining: {running} request{running:s} to finish[, {limit_s:span} at most]",
        "Last round, please 🌙", "The lights went down; {running} request{running:s} left to finish.",
    ),
    _life(
        "stopped", "supervisor", "Stopped after {served} request{served:s} and {tokens} token{tokens:s}",
        "Good night 💤", "It had sung {tokens} token{tokens:s}, and went to sleep.",
    ),
    _life(
        "relay_start", "relay", "Relay listens on port {port}, waiting for worker {worker}",
        "The microphone is on; waiting for {worker} 🎙️", "The microphone was on before the singer came.",
        target="worker",
    ),
    _life(
        "relay_open", "relay",
        "Whoever reaches {host}:{port} may ask: there are no API keys. Set spec.auth or RHAPSODE_KEYS",
        level="warn",
    ),
    _life(
        "worker_joined", "relay", "Worker {worker} is here with {engine}, {jobs} job{jobs:s} in hand",
        "Here comes {worker} 👋", "{worker} came to the microphone with {engine}.",
        target="worker",
    ),
    _life(
        "worker_lost", "relay", "Worker {worker} is gone; {jobs} running request{jobs:s} ended, {queued} waiting",
        level="error",
        target="worker",
    ),
    _life(
        "worker_refused", "relay", "Refused a second worker: {why:word}. Stop one of the two", level="warn",
    ),
    _life(
        "play_start", "play", "Playing {model} at {url}, a page and /v1 (admin {admin_url}, worker socket {socket})",
        "Curtain up at {url} 🎭", "The stage was set at {url}.",
        target="model",
    ),
    _life("play_restart", "play", "{process} ended by {how}; starting it again", level="warn", target="process"),
    _life(
        "bad_lines", "relay", "Skipped a line on the worker socket: {why:word}. Each line must be one JSON frame",
        level="warn",
    ),
    _life(
        "relay_lost", "supervisor", "The relay is gone; generating on for {grace_s:span} while it restarts",
        level="warn",
    ),
    _life("relay_back", "supervisor", "The relay is back after {seconds:span}; {jobs} job{jobs:s} went on meanwhile"),
    _life(
        "relay_drain", "relay", "Relay is draining: {running} request{running:s} to finish[, {limit_s:span} at most]",
        "Last round, please 🌙", "The relay closed its door; {running} request{running:s} left to finish.",
    ),
)  # fmt: skip

_REQUEST = (
    _request(
        "accepted", "relay",
        "Accepted: {prompt_chars} character{prompt_chars:s}, up to {max_tokens} token{max_tokens:s}",
        "Your question is in good hands ✉️", "A question of {prompt_chars} character{prompt_chars:s} arrived.",
    ),
    _request(
        "queued", "relay", "Waiting: number {position} in line[, about {eta_s:span}]",
        "Number {position} in line; the line moves 🪑", "It took its place in line, number {position}.",
    ),
    _request(
        "tokenized", "tokenizer", "Prompt is {tokens} token{tokens:s}",
        "Sliced into {tokens} piece{tokens:s} 🍰", "The question was sliced into {tokens} piece{tokens:s}.",
    ),
    _request(
        "prefix_reused", "engine", "Reused {cached} of {tokens} prompt tokens from the cache",
        "I remember {cached} of them 🧠", "{cached} of {tokens} piece{tokens:s} were old acquaintances.",
    ),
    _request(
        "inference_start", "engine",
        "Generating up to {max_tokens} token{max_tokens:s}[ (temperature {temperature})]",
        "Here we go 🚀", "It drew a breath and began.",
    ),
    _request(
        "first_token", "engine", "First token after {ms:ms}",
        "The first word 🎈", "The first word came after {ms:ms}.",
    ),
    _request(
        "tokens", "engine", "{tokens} token{tokens:s} so far[ ({rate:rate} tok/s)]",
        "{tokens} and counting 🎯", "{tokens} token{tokens:s} so far, and the tale went on.",
    ),
    _request(
        "inference_complete", "engine",
        "Done: {tokens} token{tokens:s} in {ms:ms}[ ({rate:rate} tok/s)], stopped by {reason}"
        "[; {queue_ms:ms} in the engine's queue][, its first token after {engine_first_ms:ms}]"
        "[, {cached} from its cache]",
        "{tokens} token{tokens:s}, signed and sealed 🎉",
        "After {tokens} token{tokens:s} and {ms:ms} the tale was told.",
    ),
    _request(
        "cancelled", "relay", "Cancelled by {who} after {tokens} token{tokens:s}",
        "As you wish 🕊️", "After {tokens} token{tokens:s} {who} had heard enough.",
    ),
    _request(
        "timed_out", "relay",
        "Stopped after {tokens} token{tokens:s}: {what} took longer than {limit_s:span}. Send the request again",
        level="warn",
    ),
    _request(
        "resumed", "relay", "A reader came back at event {seq}: nothing lost",
        "Welcome back 👋", "A listener came back and missed nothing.",
    ),
    _request(
        "restored", "relay", "The relay restarted; {tokens} token{tokens:s} were kept by the worker", level="warn",
    ),
    _request(
        "handed_over", "relay", "Handed over to {peer}: this replica is {why}",
        "{peer} will sing this one 🎤", "The question went on to {peer}, which was ready.", target="peer",
    ),
    _request(
        "taken_over", "relay", "Taken over from {peer}, which could not begin now",
        "{peer} sent you here; welcome 👋", "The question came from {peer}, which could not begin.", target="peer",
    ),
    _request(
        "owner_unreachable", "relay", "Cannot reach {peer}, which holds this job: {why:word}. Ask again in 2 s",
        level="warn", target="peer",
    ),
    _request("failed", "supervisor", "Could not finish: {why:word}. {remedy}", level="error"),
)  # fmt: skip

_JOINED = (*MODEL_ENTRIES, *LOAD_ENTRIES, *GPU_ENTRIES, *CLUSTER_ENTRIES, *_REQUEST, *TURN_ENTRIES)
CATALOGUE: Mapping[str, Entry] = {entry.action: entry for entry in (*_LIFECYCLE, *_JOINED)}
