"""What the common Xid codes mean, and what a person can do. From NVIDIA's public Xid catalogue. Pure data."""

from typing import NamedTuple

_RESET = "Reset it with nvidia-smi --gpu-reset when nothing uses it."
_REBOOT = "Drain the node and reboot it."
_REPLACE = "Drain the node; if it comes again, have the GPU replaced."
_PROGRAM = "See the engine's last lines; update the engine if it comes again."
_DRIVER = "Update the NVIDIA driver if it comes again."
_WATCH = "Nothing to do unless it comes often."
UNKNOWN_REMEDY = "Look it up in NVIDIA's Xid catalogue."


class XidCode(NamedTuple):
    """`by_program`: the cause is most likely a program, not the GPU."""

    meaning: str
    remedy: str
    by_program: bool = False


XID_CODES = {
    13: XidCode("graphics engine exception", _PROGRAM, True),
    31: XidCode("memory page fault", _PROGRAM, True),
    32: XidCode("corrupted push buffer", _DRIVER),
    38: XidCode("driver firmware error", _DRIVER),
    43: XidCode("the GPU stopped processing it", _PROGRAM, True),
    45: XidCode("cleaned up after it ended", _WATCH, True),
    48: XidCode("double-bit ECC error", _RESET),
    61: XidCode("internal micro-controller breakpoint", _RESET),
    62: XidCode("internal micro-controller halt", _RESET),
    63: XidCode("a bad memory row is to be remapped", _RESET),
    64: XidCode("a bad memory row could not be remapped", _REPLACE),
    68: XidCode("video processor exception", _PROGRAM, True),
    69: XidCode("graphics engine class error", _PROGRAM, True),
    74: XidCode("NVLink error", _REPLACE),
    79: XidCode("the GPU has fallen off the bus", _REBOOT),
    92: XidCode("many single-bit ECC errors", _REPLACE),
    94: XidCode("contained memory error", _RESET),
    95: XidCode("uncontained memory error", _RESET),
    109: XidCode("context switch timeout", _PROGRAM, True),
    119: XidCode("the GPU's system processor does not answer", _RESET),
    120: XidCode("error of the GPU's system processor", _RESET),
    121: XidCode("chip-to-chip link error", _REBOOT),
    140: XidCode("unrecovered memory error", _RESET),
    154: XidCode("the driver asks for a recovery action", "See nvidia-smi -q, GPU Recovery Action."),
}
