"""What TensorRT-LLM's own lines tell, and what is told of them in turn.

`tensorrt-llm-1.2-load.txt` is no capture: it is put together from lines that sources of 1.2 and public logs of 1.1.0rc3
and 1.2.0rc2 show, in the order of those logs. `tensorrt-llm-1.2.0rc2-quiet.txt` has the lines, in their order, that a
public log of that version has (a post of 2025-11-22 on running Qwen3-8B-FP8), shortened, with other numbers: it was
made without TLLM_LOG_LEVEL.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.frames import Gpu, Vram
from rhapsode_worker.load_signs import Sign, Step, read_sign
from rhapsode_worker.taking_room import Room
from rhapsode_worker.telling_loads import LoadTeller

GIB = 2**30
LINES = (Path(__file__).parent / "data/tensorrt-llm-1.2-load.txt").read_text().splitlines()
TOLD = """Imported TensorRTLLM 1.2.1
TensorRTLLM accepts its settings, PyTorch backend
TensorRTLLM starts its own worker process, which imports everything once more
The weights have 63.3 GiB of memory
Reading the checkpoint, 68.1 GB
Reading the checkpoint: 15 of 15 files, about 0 s left
Loading weights, 100 %, about 0 s left
Weights loaded: the model stands after 49.1 s
KV cache of 0.56 GiB for up to 8224 tokens at once
Trying which kernels are fastest on this GPU
Capturing CUDA graphs: 0 of 3
Capturing CUDA graphs: 1 of 3
Capturing CUDA graphs: 2 of 3
Measured: 5.95 GiB are left for the KV cache
KV cache of 5.95 GiB for up to 86688 tokens at once
Trying which kernels are fastest on this GPU, once more
Capturing CUDA graphs once more: 0 of 3
Capturing CUDA graphs once more: 1 of 3
Capturing CUDA graphs once more: 2 of 3
TensorRTLLM is loaded; the first token comes next""".splitlines()


def tell(*lines: str) -> list[str]:
    teller = LoadTeller("TensorRTLLM", "m")
    signs = filter(None, map(read_sign, lines))
    return [said.human for sign in signs for said in teller.take(sign)]


def test_a_recorded_load_is_told_from_beginning_to_end() -> None:
    assert tell(*LINES) == TOLD


def test_a_load_that_prints_little_is_told_as_far_as_it_goes() -> None:
    lines = (Path(__file__).parent / "data/tensorrt-llm-1.2.0rc2-quiet.txt").read_text().splitlines()
    assert tell(*lines) == [
        "Imported TensorRTLLM 1.2.0rc2",
        "TensorRTLLM accepts its settings, PyTorch backend",
        "TensorRTLLM starts its own worker process, which imports everything once more",
        "Reading the checkpoint: 2 of 2 files, about 0 s left",
        "Loading weights, 100 %, about 0 s left",
        "Weights loaded: the model stands after 3.1 s",
        "KV cache of 0.5 GiB for up to 256 tokens at once",
        "KV cache of 3 GiB for up to 1536 tokens at once",
    ]


def test_ranks_that_print_the_same_lines_are_one_voice() -> None:
    twice = [line for line in LINES for _ in range(2)]
    assert list(dict.fromkeys(tell(*twice))) == TOLD
    behind = [*LINES[:13], *LINES[3:12], *LINES[13:]]
    assert tell(*behind) == TOLD


@pytest.mark.parametrize("missing", sorted({sign.step for line in LINES if (sign := read_sign(line))}))
def test_no_sign_is_needed_by_another(missing: Step) -> None:
    kept = [line for line in LINES if not (sign := read_sign(line)) or sign.step != missing]
    assert tell(*kept)
    assert set(tell(*kept)) - set(TOLD) <= {"KV cache of 5.95 GiB for up to 86688 tokens at once"}


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("[TensorRT-LLM] TensorRT-LLM version: 0.20.0", Sign(step=Step.IMPORTED, facts={"version": "0.20.0"})),
        ("[TRT-LLM] [I] Rank 0 uses 8.46 GB for model weights.", Sign(step=Step.SKELETON, bytes_total=9083855831)),
        (
            "Loading weights concurrently:  44%|████▍     | 20/45 [00:12<01:15,  3.05s/it]",
            Sign(step=Step.LOAD, fraction=20 / 45, facts={"done": 20, "total": 45, "eta_s": 75}),
        ),
        (
            "Loading weights concurrently: 100% 45/45 [00:01<00:00, 35.06it/s]",
            Sign(step=Step.LOAD, fraction=1.0, facts={"done": 45, "total": 45, "eta_s": 0}),
        ),
        (
            "Loading bin weights in parallel:   0%|          | 0/2 [00:00<?, ?it/s]",
            Sign(step=Step.READ, fraction=0.0, facts={"done": 0, "total": 2}),
        ),
        (
            "Loading weights:   0%|          | 0/0 [00:00<?, ?it/s]",
            Sign(step=Step.LOAD, facts={"done": 0, "total": 0}),
        ),
        ("Loading weights: 10%|█         | 80/80", None),
        ("[Autotuner]: Autotuning process starts ...", Sign(step=Step.AUTOTUNE)),
        ("Run generation only CUDA graph warmup for batch size=64", Sign(step=Step.GRAPHS, facts={"size": 64})),
        ("Running CUDA graph capture for 8 batch sizes.", Sign(step=Step.GRAPHS, facts={"sizes": 8})),
        ("Use 9999999999999999999999 GB for model weights", None),
        ("a line that nobody has seen", None),
    ],
)
def test_lines_of_other_versions_tell_the_same(line: str, sign: Sign | None) -> None:
    assert read_sign(line) == sign


@given(st.lists(st.sampled_from(LINES), max_size=200))
def test_lines_in_any_order_are_told_in_bounds(lines: list[str]) -> None:
    teller = LoadTeller("TensorRTLLM", "m")
    told = [said.action for sign in filter(None, map(read_sign, lines)) for said in teller.take(sign)]
    bars = ("checkpoint_read", "weights_load", "graphs_capture")
    assert sum(action not in bars for action in told) < 50, "however often they come"


# The room


def vram(*used: float, healthy: bool = True) -> Vram:
    gpus = [
        Gpu(uuid=f"GPU-{at}", name="H100", total_bytes=80 * GIB, used_bytes=int(one * GIB), healthy=healthy)
        for at, one in enumerate(used)
    ]
    return Vram(source="nvml" if gpus else "none", gpus=gpus)


def test_room_is_what_was_taken_since_the_load_began_and_never_more_than_all() -> None:
    room = Room(16 * GIB, ranks=2)
    assert room.look(vram(9, 1)) is None
    assert room.look(vram(2, 1)) is None, "an engine that ended gives its memory back late"
    half = room.look(vram(6, 5))
    assert half == Sign(step=Step.ROOM, fraction=0.5, bytes_total=16 * GIB, facts={"bytes_done": 8 * GIB})
    assert room.announce(4 * GIB) == 2
    full = room.look(vram(30, 30))
    assert full == Sign(step=Step.ROOM, fraction=1.0, bytes_total=8 * GIB, facts={"bytes_done": 8 * GIB})


def test_the_announced_size_is_that_of_each_rank_whatever_gpus_there_are() -> None:
    room = Room(None, ranks=2)
    room.look(vram(1, 1, 1, 1))
    assert room.announce(8 * GIB) == 2
    half = room.look(vram(5, 5, 1, 1))
    assert half == Sign(step=Step.ROOM, fraction=0.5, bytes_total=16 * GIB, facts={"bytes_done": 8 * GIB})


def test_of_room_that_nobody_measures_nothing_is_told() -> None:
    assert Room(16 * GIB).look(vram()) is None
    unknown = Room(None)
    assert [unknown.look(vram(1)), unknown.look(vram(40))] == [None, None]
    lost = Room(16 * GIB)
    assert [lost.look(vram(1)), lost.look(vram(9, healthy=False))] == [None, None]


def test_the_size_is_told_when_it_has_been_taken_and_room_no_more_after_that() -> None:
    teller, room = LoadTeller("TensorRTLLM", "m"), Room(16 * GIB)
    room.look(vram(1))
    sign = room.look(vram(9))
    assert sign is not None
    assert [said.human for said in teller.take(sign)] == ["Taking GPU memory for the weights: 8 GiB of 16 GiB, 50 %"]
    assert teller.take(Sign(step=Step.SKELETON, bytes_total=16 * GIB)) == []
    full = room.look(vram(17))
    assert full is not None
    assert [said.action for said in teller.take(full)] == ["weights_room", "weights_size"]
    assert not teller.minds_room
    assert teller.take(full) == []
