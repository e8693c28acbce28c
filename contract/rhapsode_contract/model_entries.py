"""How a model comes to its worker: a part of the catalogue's table, under its rules."""

from rhapsode_contract.entries import tell_of_life as _life

MODEL_ENTRIES = (
    _life(
        "model_resolve", "fetcher", "Resolved {source}: {files} file{files:s}, {bytes_total:size}",
        "Found the address of {model} 📍",
        "It learned where {model} lives: {bytes_total:size} in {files} file{files:s}.",
        target="model",
    ),
    _life(
        "model_fetch", "fetcher",
        "Fetching {model}: {bytes_done:size} of {bytes_total:size} ({fraction:percent}"
        "[, {bytes_per_s:size}/s][, about {eta_s:span} left])",
        "{fraction:percent} of {model} has come home 📦", "{fraction:percent} of {model} had come home.",
        target="model",
    ),
    _life(
        "model_verify", "fetcher", "Verified {model}[: {files} file{files:s}][ (sha256 {sha256}…)]",
        "Every byte is who it says it is 🔍", "Every byte of {model} proved to be who it said it was.",
        target="model",
    ),
    _life(
        "model_cached", "fetcher", "{model} is in the cache ({bytes_total:size}), nothing to fetch",
        "{model} was home all along 🛋️", "{model} had been at home all along.",
        target="model",
    ),
    _life(
        "model_copy", "fetcher", "Copying {source} to the cache ({bytes_total:size}): OpenVINO opens it for writing",
        "Making {source} a home of its own 🏠", "It copied {source}, {bytes_total:size}, to a place of its own.",
        target="source",
    ),
    _life(
        "model_resume", "fetcher", "Going on with {model} from {bytes_done:size} of {bytes_total:size}",
        "Picking up where I left off 🧵", "It took up {model} where it had been dropped.", target="model",
    ),
    _life(
        "model_wait", "fetcher", "Somebody else fetches {model}[: {fraction:percent} is here]; waiting for that",
        "{model} is being brought along 🚶", "Somebody else was carrying {model} already.", target="model",
    ),
    _life(
        "model_retry", "fetcher", "{why:word}. Going on from {bytes_done:size} in {backoff_s:span}",
        level="warn",
    ),
    _life(
        "model_unchecked", "fetcher", "{why:word}. Taking {model} from the cache, as of {commit}",
        level="warn", target="model",
    ),
)  # fmt: skip
