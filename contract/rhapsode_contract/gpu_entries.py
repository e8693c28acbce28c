"""What the worker tells of its GPUs while it runs: a part of the catalogue's table, under its rules."""

from rhapsode_contract.entries import tell_of_life as _life

GPU_ENTRIES = (
    _life(
        "device_silent", "gpu",
        "NVML has not answered for {seconds:span}: VRAM unknown. Look for Xid in the node's dmesg",
        level="warn",
    ),
    _life("device_answers", "gpu", "NVML answers again after {seconds:span}", "The GPU found its tongue again 👅"),
    _life(
        "gpu_lost", "gpu", "{name} {gpu} cannot be asked any more: {why}. {remedy}", level="error", target="uuid",
    ),
    _life(
        "gpu_back", "gpu", "{name} {gpu} is back after {seconds:span}",
        "{name} is home again 🏠", "After {seconds:span} {name} came home.", target="uuid",
    ),
    _life(
        "gpu_fault", "gpu", "{gpu} reports Xid {code}[, {meaning}]. {remedy}", level="error", target="uuid",
    ),
    _life(
        "gpu_program_fault", "gpu", "A program on {gpu} failed: Xid {code}, {meaning}. {remedy}",
        level="warn", target="uuid",
    ),
    _life(
        "gpu_throttled", "gpu",
        "{gpu} is slowed down: {why}[, {temperature_c} °C][, {power_w:rate} W]. {remedy}",
        "Going slower for a while 🐌", level="warn", target="uuid",
    ),
    _life(
        "gpu_unthrottled", "gpu", "{gpu} runs at full speed again after {seconds:span}",
        "Cool again, and off we go 🧊", "After {seconds:span} it ran at full speed again.", target="uuid",
    ),
    _life(
        "vram_pressure", "gpu",
        "VRAM of {gpu} at {fraction:percent} ({used_bytes:gib} of {total_bytes:gib}). Lower maxSequences if it fails",
        "It is getting cosy in here 🧸", "The room grew tight: {used_bytes:gib} of {total_bytes:gib}.",
        level="warn", target="uuid",
    ),
    _life(
        "vram_relief", "gpu", "VRAM of {gpu} at {fraction:percent} again ({used_bytes:gib} of {total_bytes:gib})",
        "Room to breathe again 🍃", "There was room again: {used_bytes:gib} of {total_bytes:gib}.", target="uuid",
    ),
)  # fmt: skip
