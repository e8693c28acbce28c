"""How an engine without a progress callback loads: a part of the catalogue's table, under its rules."""

from rhapsode_contract.entries import tell_of_life as _life

LOAD_ENTRIES = (
    _life(
        "engine_imported", "engine", "Imported {engine} {version}",
        "The heavy boots are on 🥾", "The boots were on: {engine} {version}.", target="engine",
    ),
    _life(
        "engine_args", "engine", "{engine} accepts its settings, {backend} backend",
        "The rules are read 📜", "It read the rules of the house, and agreed.", target="engine",
    ),
    _life(
        "engine_spawn", "engine", "{engine} starts its own worker process, which imports everything once more",
        "Waking up the rest of the band 🥁", "It woke up the rest of the band.", target="engine",
    ),
    _life(
        "weights_room", "gpu",
        "Taking GPU memory for the weights: {bytes_done:gib} of {bytes_total:gib}, {fraction:percent}",
        "Clearing the shelves: {fraction:percent} 🗄️", "It cleared {fraction:percent} of the shelves.",
        target="model",
    ),
    _life(
        "weights_size", "engine", "The weights have {bytes_total:gib} of memory[ on each of {count} GPUs]",
        "The shelves are up 🗄️", "The shelves were up, {bytes_total:gib} of them.", target="model",
    ),
    _life(
        "checkpoint_read", "engine",
        "Reading the checkpoint[: {done} of {total} files][, {bytes_total:size}][, about {eta_s:span} left]",
        "Leafing through the score 📖", "It leafed through the score.", target="model",
    ),
    _life(
        "weights_done", "engine", "Weights loaded: the model stands after {seconds:span}",
        "Everything is upstairs 🧳", "After {seconds:span} everything was upstairs.", target="model",
    ),
    _life(
        "autotune", "engine", "Trying which kernels are fastest on this GPU[, {again}]",
        "Tuning the strings 🎸", "It tuned its strings.",
    ),
    _life(
        "kv_cache_measured", "engine", "Measured: {bytes_total:gib} are left for the KV cache",
        "Room for {bytes_total:gib} of memories 📐", "It found room for {bytes_total:gib} of memories.",
    ),
    _life(
        "engine_settled", "engine", "{engine} is loaded; the first token comes next",
        "Nearly there 🎬", "It was ready for its first word.", target="engine",
    ),
)  # fmt: skip
